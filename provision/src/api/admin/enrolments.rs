//! Enrolments: who may register, and by what proof. Secrets go in, and come out only where they must.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use wire::ids::{EnrolmentId, Environment};
use wire::provisioning::Bytes;

use super::dto::{
    Enrolled, EnrolmentChange, EnrolmentView, KeyAnswer, KeyQuestion, NewEnrolment, NewProof, Page, Paging,
    Share,
};
use super::{Operator, limit, name, page};
use crate::api::Service;
use crate::api::problem::Refused;
use crate::api::question::{Asked, Body, Named, bad};
use crate::attestation::derive;
use crate::model::{Enrolment, Proof};
use crate::registry::{Books, enrolments, unknown};

/// Shortest and longest key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=1_024;
/// Most tenants of a gateway.
const MAX_SHARES: usize = 64;
/// Most devices of a tenant at a gateway.
const MAX_DEVICES: u32 = 1_000_000;

/// What is written down of a new enrolment: all but the proof itself.
#[derive(Serialize)]
struct Detail<'a> {
    proof: &'a str,
    environment: &'a Environment,
    shares: &'a [Share],
    blocked: bool,
}

/// All enrolments.
#[utoipa::path(get, path = "/v1/admin/enrolments", tag = "enrolments", params(Paging),
    responses((status = 200, body = Page<EnrolmentView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<Paging>,
) -> Result<Json<Page<EnrolmentView>>, Refused> {
    let (limit, after) = (limit(asked.limit)?, name::<EnrolmentId>(asked.after.as_deref())?);
    let found = service.registry.read(move |db| {
        let found = enrolments::list(db, after.as_ref(), limit + 1)?;
        found.into_iter().map(|it| Ok((enrolments::gateways_of(db, &it.id)?, it))).collect()
    });
    let found: Vec<(u32, Enrolment)> = found.await?;
    let views = found.into_iter().map(|(gateways, it)| viewed(it, gateways)).collect();
    Ok(Json(page(views, limit, |it: &EnrolmentView| it.id.to_string())))
}

/// Enrols a gateway, or a group. The same once more changes nothing.
#[utoipa::path(post, path = "/v1/admin/enrolments", tag = "enrolments", request_body = NewEnrolment,
    responses((status = 201, body = Enrolled)))]
pub(in crate::api) async fn add(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Body(new): Body<NewEnrolment>,
) -> Result<(StatusCode, Json<Enrolled>), Refused> {
    let NewEnrolment { id, proof, environment, shares, blocked } = new;
    check(&shares)?;
    let (proof, key) = proved(proof)?;
    let kind = proof.kind();
    let enrolment = Enrolment { id: id.clone(), proof, environment, shares, blocked };
    let Enrolment { environment, shares, .. } = enrolment.clone();
    let detail = Detail { proof: kind, environment: &environment, shares: &shares, blocked };
    let add = move |books: &mut Books<'_>| books.add_enrolment(&enrolment);
    operator.act(&service, "enrolment.add", id.as_str(), &detail, add).await?;
    Ok((StatusCode::CREATED, Json(Enrolled { enrolment: view(&service, &id).await?, key })))
}

/// One enrolment, without its secret.
#[utoipa::path(get, path = "/v1/admin/enrolments/{id}", tag = "enrolments", params(("id" = String, Path)),
    responses((status = 200, body = EnrolmentView)))]
pub(in crate::api) async fn one(
    _: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<EnrolmentId>,
) -> Result<Json<EnrolmentView>, Refused> {
    view(&service, &id).await.map(Json)
}

/// Changes an enrolment: blocked or not, its tenants, its environment.
#[utoipa::path(patch, path = "/v1/admin/enrolments/{id}", tag = "enrolments", params(("id" = String, Path)),
    request_body = EnrolmentChange, responses((status = 200, body = EnrolmentView)))]
pub(in crate::api) async fn change(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<EnrolmentId>,
    Body(change): Body<EnrolmentChange>,
) -> Result<Json<EnrolmentView>, Refused> {
    if let Some(shares) = &change.shares {
        check(shares)?;
    }
    let (detail, enrolment) = (change.clone(), id.clone());
    let make = move |books: &mut Books<'_>| {
        if let Some(blocked) = change.blocked {
            books.block_enrolment(&enrolment, blocked)?;
        }
        books.change_enrolment(&enrolment, change.shares.as_deref(), change.environment.as_ref())
    };
    operator.act(&service, "enrolment.change", id.as_str(), &detail, make).await?;
    view(&service, &id).await.map(Json)
}

/// Forgets an enrolment that no gateway came in by.
#[utoipa::path(delete, path = "/v1/admin/enrolments/{id}", tag = "enrolments", params(("id" = String, Path)),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<EnrolmentId>,
) -> Result<StatusCode, Refused> {
    let enrolment = id.clone();
    let remove = move |books: &mut Books<'_>| books.remove_enrolment(&enrolment);
    operator.act(&service, "enrolment.remove", id.as_str(), &(), remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The key of a gateway of a group, to be put on the gateway. Written down like a change.
#[utoipa::path(post, path = "/v1/admin/enrolments/{id}/key", tag = "enrolments", params(("id" = String, Path)),
    request_body = KeyQuestion, responses((status = 200, body = KeyAnswer)))]
pub(in crate::api) async fn key(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<EnrolmentId>,
    Body(question): Body<KeyQuestion>,
) -> Result<Json<KeyAnswer>, Refused> {
    let found = find(&service, &id).await?;
    let Proof::GroupKey(group) = &found.proof else {
        return Err(Refused::new(
            StatusCode::CONFLICT,
            "unfit",
            format!(
                "enrolment {id} is proved by {}: keys are derived from a group's key",
                found.proof.kind()
            ),
            "enrol a group by a key: `sluice-provision enrolment add --group-key`",
        ));
    };
    let key = Bytes(derive(group, &question.gateway));
    operator.act(&service, "enrolment.key", id.as_str(), &question, |_| Ok(())).await?;
    Ok(Json(KeyAnswer { gateway: question.gateway, enrolment: id, key }))
}

async fn find(service: &Service, id: &EnrolmentId) -> Result<Enrolment, Refused> {
    let wanted = id.clone();
    let found = service.registry.read(move |db| enrolments::one(db, &wanted)).await?;
    found.ok_or_else(|| unknown("enrolment", id).into())
}

async fn view(service: &Service, id: &EnrolmentId) -> Result<EnrolmentView, Refused> {
    let found = find(service, id).await?;
    let wanted = id.clone();
    let gateways = service.registry.read(move |db| enrolments::gateways_of(db, &wanted)).await?;
    Ok(viewed(found, gateways))
}

fn viewed(enrolment: Enrolment, gateways: u32) -> EnrolmentView {
    let Enrolment { id, proof, environment, shares, blocked } = enrolment;
    let sha256 = match &proof {
        Proof::Fingerprint(digest) => Some(hex(digest)),
        Proof::Authority(der) => Some(hex(digest::digest(&digest::SHA256, der).as_ref())),
        // What is derived from a key says something about it.
        Proof::Key(_) | Proof::GroupKey(_) => None,
    };
    let (kind, group) = (proof.kind().to_owned(), proof.is_of_group());
    EnrolmentView { id, proof: kind, sha256, group, environment, shares, blocked, gateways }
}

/// The proof as it is kept, and the key if one was made.
fn proved(proof: NewProof) -> Result<(Proof, Option<Bytes>), Refused> {
    let secret = |key: Option<Bytes>| match key {
        Some(key) if KEY_BYTES.contains(&key.0.len()) => Ok((key.0, None)),
        Some(key) => {
            Err(bad(format!("the key has {} bytes", key.0.len()), "give 16 to 1024 bytes, as base64"))
        }
        None => {
            let mut key = vec![0; 32];
            SystemRandom::new().fill(&mut key).map_err(|_| Refused::busy())?;
            Ok((key.clone(), Some(Bytes(key))))
        }
    };
    Ok(match proof {
        NewProof::Fingerprint { sha256 } => (Proof::Fingerprint(fingerprint(&sha256)?), None),
        NewProof::Certificate { pem } => {
            let der = certificate(&pem)?;
            let digest = digest::digest(&digest::SHA256, &der);
            let digest = digest.as_ref().try_into().map_err(|_| Refused::busy())?;
            (Proof::Fingerprint(digest), None)
        }
        NewProof::Authority { pem } => {
            let der = certificate(&pem)?;
            crate::api::peers::check_authority(&der).map_err(|error| {
                bad(error.to_string(), "give the certificate of an authority, with CA:TRUE")
            })?;
            (Proof::Authority(der), None)
        }
        NewProof::Key { key } => {
            let (key, made) = secret(key)?;
            (Proof::Key(key), made)
        }
        NewProof::GroupKey { key } => {
            let (key, made) = secret(key)?;
            (Proof::GroupKey(key), made)
        }
    })
}

fn certificate(pem: &str) -> Result<Vec<u8>, Refused> {
    let wrong =
        |cause: String| bad(format!("the certificate cannot be read: {cause}"), "give it in PEM form");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    x509_parser::parse_x509_certificate(&der).map_err(|error| wrong(error.to_string()))?;
    Ok(der.to_vec())
}

/// 64 hexadecimal digits, colons between them or not.
fn fingerprint(text: &str) -> Result<[u8; 32], Refused> {
    let wrong = || {
        bad(
            "a fingerprint has 64 hexadecimal digits",
            "see `openssl x509 -noout -fingerprint -sha256 -in FILE`",
        )
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return Err(wrong());
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(shares: &[Share]) -> Result<(), Refused> {
    if shares.is_empty() || shares.len() > MAX_SHARES {
        return Err(bad(
            format!("{} tenants are named", shares.len()),
            "name 1 to 64 tenants, each with its devices",
        ));
    }
    for (place, share) in shares.iter().enumerate() {
        if !(1..=MAX_DEVICES).contains(&share.devices) {
            let message = format!("tenant {} has {} devices", share.tenant, share.devices);
            return Err(bad(message, "write 1 to 1000000 devices that are expected at each gateway"));
        }
        if shares.iter().take(place).any(|other| other.tenant == share.tenant) {
            return Err(bad(format!("tenant {} is named twice", share.tenant), "name each tenant once"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons_and_nothing_else_is() {
        let plain = "0123456789abcdef".repeat(4);
        let digest = fingerprint(&plain).unwrap();
        assert_eq!(hex(&digest), plain);
        let colons: Vec<String> = plain
            .to_uppercase()
            .as_bytes()
            .chunks(2)
            .map(|it| String::from_utf8(it.to_vec()).unwrap())
            .collect();
        assert_eq!(fingerprint(&colons.join(":")).unwrap(), digest);
        for wrong in
            ["", "00", &plain[1..], &format!("{plain}0"), &plain.replace('0', "g"), &plain.replace('0', "+")]
        {
            assert!(fingerprint(wrong).is_err(), "{wrong}");
        }
    }
}

//! The OpenAPI document of all routes: generated from the routes and types themselves, checked in as
//! `provision/openapi.json`.
//!
//! Invariants (tested): the file is what the program prints; each route of the router is in it.

pub mod shapes;

#[cfg(test)]
mod tests;

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{admin, desired, gateway, releases, stamp};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sluice-provision",
        description = "Which gateway is who, and which stamp serves which of its tenants. HTTPS with TLS 1.3 alone. Times are seconds since 1970 UTC, bytes are base64. Whoever reads ignores fields it does not know."
    ),
    paths(
        gateway::challenge, gateway::register, gateway::renew, gateway::assignments,
        stamp::roster, stamp::fenced, stamp::receipts, stamp::report,
        desired::desired, desired::content, desired::conditions,
        admin::stamps::list, admin::stamps::add, admin::stamps::one, admin::stamps::change, admin::stamps::undrain,
        admin::stamps::remove,
        admin::tenants::list, admin::tenants::add, admin::tenants::one, admin::tenants::change,
        admin::tenants::remove,
        admin::enrolments::list, admin::enrolments::add, admin::enrolments::one, admin::enrolments::change,
        admin::enrolments::remove, admin::enrolments::key,
        admin::gateways::list, admin::gateways::one, admin::gateways::block, admin::gateways::unblock,
        admin::gateways::remove,
        admin::operations::list, admin::operations::start, admin::operations::one, admin::operations::abort,
        admin::receipts::list,
        admin::insight::explain, admin::insight::status, admin::insight::audit,
        releases::content, releases::upload::put, releases::publish, releases::list, releases::one, releases::remove,
        releases::desired,
        releases::rollouts::start, releases::rollouts::list, releases::rollouts::one, releases::rollouts::abort,
    ),
    components(schemas(shapes::Problem)),
    tags(
        (name = "gateways' side", description = "Asked by gateways"),
        (name = "stamps' side", description = "Asked by stamps, each about itself"),
        (name = "stamps", description = "Asked by operators, like all that follows"),
        (name = "tenants"), (name = "enrolments"), (name = "gateways"), (name = "operations"), (name = "insight"),
        (name = "releases"),
    ),
    modifiers(&Everywhere)
)]
struct Document;

/// The document, as JSON that people can read.
#[must_use]
pub fn document() -> String {
    // It is made of strings and numbers: there is nothing that could fail.
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// What holds for all routes: refusals are problems, and who asks is known by a certificate.
struct Everywhere;

/// Name of the way in which whoever asks is known.
const CERTIFICATE: &str = "certificate";

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::MutualTls {
            description: Some(
                "A gateway's operational certificate, or one of a stamp or an operator from provision.trust"
                    .to_owned(),
            ),
            extensions: None,
            deprecated: None,
        };
        if let Some(components) = &mut document.components {
            components.add_security_scheme(CERTIFICATE, scheme);
        }
        for (path, item) in &mut document.paths.paths {
            // A gateway that is not known yet has no certificate, or any.
            let open = matches!(path.as_str(), "/v1/challenge" | "/v1/register");
            for (method, operation) in operations(item) {
                operation.operation_id = Some(name(method, path));
                for (status, response) in &mut operation.responses.responses {
                    if let RefOr::T(response) = response
                        && response.description.is_empty()
                    {
                        response.description = words(status).to_owned();
                    }
                }
                if !open {
                    operation.security = Some(vec![SecurityRequirement::new(CERTIFICATE, [""; 0])]);
                }
                let problem =
                    ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Problem")))).build();
                let refused = ResponseBuilder::new()
                    .description("It is refused: with a code for programs, words for people, and what to do")
                    .content("application/json", problem)
                    .build();
                operation.responses.responses.insert("default".to_owned(), RefOr::T(refused));
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// A name of its own for each: `get_admin_stamps_id`.
fn name(method: &str, path: &str) -> String {
    let parts = path.trim_start_matches("/v1/").split('/').map(|part| part.trim_matches(['{', '}']));
    parts.fold(method.to_owned(), |name, part| format!("{name}_{part}"))
}

/// What a status says where the route says no more.
fn words(status: &str) -> &'static str {
    match status {
        "201" => "It was made",
        "204" => "It was done, and there is nothing to say",
        _ => "The answer",
    }
}

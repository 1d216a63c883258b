//! What is kept, at each moment at which the power may fail.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
    date_time_ymd,
};

use super::*;

const NOW: i64 = 1_800_000_000;
const LIFE: i64 = 7 * 86_400;

/// Issues as the service does.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn give(&self, name: &str, request: &[u8], now: i64) -> Registration {
        let parsed = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let at = |seconds: i64| date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds as u64);
        (params.not_before, params.not_after) = (at(now - BACKDATED), at(now + LIFE));
        let certificate = params.signed_by(&parsed.public_key, &self.0).unwrap();
        Registration {
            gateway: "g".parse().unwrap(),
            environment: "test".parse().unwrap(),
            certificate: Some(certificate.pem()),
            not_after: Some(now + LIFE),
            trust: self.0.pem(),
            assignments: vec![],
            revision: 7,
            now,
        }
    }
}

fn kept(folder: &Path) -> Kept {
    Kept::new(folder, "https://p:8443", &"g".parse().unwrap())
}

fn files(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder.join("provisioned")).unwrap();
    let mut names: Vec<_> = all.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_given_comes_back_and_its_key_is_the_one_that_was_asked_with() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let kept = kept(folder.path());
    assert_eq!(kept.load(), None);
    let request = kept.request().unwrap();
    let known = kept.registered(&request, authority.give("g", &request.request.0, NOW)).unwrap();
    assert_eq!((known.issued, known.not_after, known.told), (NOW, NOW + LIFE, NOW));
    assert_eq!(known.registration.certificate, None, "it is in its own file");
    assert_eq!(kept.load(), Some(known.clone()));
    assert_eq!(files(folder.path()), ["identity.pem", "registration.json", "trust.pem"]);
    fits(kept.own().unwrap()).unwrap();
    // Assignments alone leave the certificate as it is.
    let newer = Registration { revision: 8, now: NOW + 5, certificate: None, ..known.registration.clone() };
    let newer = kept.assigned(&known, newer).unwrap();
    assert_eq!((newer.registration.revision, newer.told, newer.issued), (8, NOW + 5, NOW));
    assert_eq!(kept.load(), Some(newer));
}

#[test]
fn a_crash_between_any_two_files_leaves_the_old_state_or_the_new_one_and_the_same_key_for_the_request() {
    let authority = Authority::new();
    let steps = ["next.key", "trust.pem", "identity.pem", "registration.json"];
    for done in 0..=steps.len() {
        // First the whole, in another folder, and then its first files only.
        let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = kept(whole.path());
        let request = first.request().unwrap();
        let next_key = fs::read(whole.path().join("provisioned/next.key")).unwrap();
        first.registered(&request, authority.give("g", &request.request.0, NOW)).unwrap();
        fs::create_dir(folder.path().join("provisioned")).unwrap();
        for step in steps.iter().take(done) {
            let content = match *step {
                "next.key" => next_key.clone(),
                other => fs::read(whole.path().join("provisioned").join(other)).unwrap(),
            };
            fs::write(folder.path().join("provisioned").join(step), content).unwrap();
        }
        let kept = kept(folder.path());
        assert_eq!(kept.load().is_some(), done == steps.len(), "after {done} files");
        let again = kept.request().unwrap();
        assert_eq!(again.key == request.key, done > 0, "after {done} files");
        let known = kept.registered(&again, authority.give("g", &again.request.0, NOW + 1)).unwrap();
        assert_eq!(kept.load(), Some(known));
        fits(kept.own().unwrap()).unwrap();
        assert_eq!(files(folder.path()), ["identity.pem", "registration.json", "trust.pem"]);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_what_was_kept_still_counts() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let kept = kept(folder.path());
    let request = kept.request().unwrap();
    let known = kept.registered(&request, authority.give("g", &request.request.0, NOW)).unwrap();
    let renewal = kept.request().unwrap();
    assert_ne!(renewal.key, request.key, "another key with each certificate");
    let refused = |given| kept.registered(&renewal, given).unwrap_err().to_string();
    let other_key = refused(authority.give("g", &request.request.0, NOW));
    assert!(other_key.contains("not of our key"), "{other_key}");
    let other_name = refused(authority.give("h", &renewal.request.0, NOW));
    assert!(other_name.contains("a certificate for \"h\""), "{other_name}");
    let given = authority.give("g", &renewal.request.0, NOW);
    let nothing = refused(Registration { certificate: None, ..given.clone() });
    assert!(nothing.contains("no certificate"), "{nothing}");
    let other_gateway = refused(Registration { gateway: "h".parse().unwrap(), ..given });
    assert!(other_gateway.contains("gateway h's"), "{other_gateway}");
    assert_eq!(kept.load(), Some(known));
}

#[test]
fn what_is_damaged_or_of_another_service_or_gateway_counts_as_nothing() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let here = kept(folder.path());
    let request = here.request().unwrap();
    let known = here.registered(&request, authority.give("g", &request.request.0, NOW)).unwrap();
    let elsewhere = Kept::new(folder.path(), "https://other:8443", &"g".parse().unwrap());
    assert_eq!(elsewhere.load(), None);
    let renamed = Kept::new(folder.path(), "https://p:8443", &"h".parse().unwrap());
    assert_eq!(renamed.load(), None);
    let path = folder.path().join("provisioned/registration.json");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(here.load(), None);
    fs::write(&path, &whole).unwrap();
    assert_eq!(here.load(), Some(known));
    fs::remove_file(folder.path().join("provisioned/identity.pem")).unwrap();
    assert_eq!(here.load(), None);
}

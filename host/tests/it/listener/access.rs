//! Who is let in, and for which tenant: passwords, client certificates, topics of nobody.

use std::path::PathBuf;

use client::Connect;
use gateway_config::{ListenerTls, Secret, User};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::*;

fn users(folder: &tempfile::TempDir) -> Plan {
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "open sesame\n").unwrap();
    let user = |name: &str, password: bool, only: Option<&str>| User {
        name: name.to_owned(),
        password: password.then(|| Secret::File(secret.clone())),
        tenant: only.map(tenant),
    };
    let users =
        [user("ada", true, Some("acme")), user("root", true, None), user("pump", false, Some("acme"))];
    let mut plan = Plan::default();
    plan.listener.allow_anonymous = false;
    plan.listener.users = users.into_iter().map(|user| (user.name.clone(), user)).collect();
    plan
}

#[tokio::test]
async fn only_who_is_known_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let site = users(&folder).start();
    for (version, wrong, nobody) in [(4, 4, 5), (5, 0x86, 0x87)] {
        let cases = [
            (Connect::new(version, "c").user("ada", "open sesame"), 0),
            (Connect::new(version, "d").user("ada", "wrong"), wrong),
            (Connect::new(version, "d").user("eve", "open sesame"), wrong),
            (Connect::new(version, "d").user("pump", ""), wrong),
            (Connect::new(version, "d"), nobody),
        ];
        for (connect, code) in cases {
            let mut client = site.client().await;
            assert_eq!(client.try_connect(&connect).await[1], code, "{:?}", connect.user);
            if code != 0 {
                client.expect_end().await;
            }
        }
    }
    site.wait("refusals", |seen| seen.refused == 8).await;
}

#[tokio::test]
async fn a_user_publishes_for_its_tenant_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = users(&folder).start();
    let mut client = site.client().await;
    client.connect(&Connect::new(5, "c").user("ada", "open sesame")).await;
    client.publish(1, 1, "site/bolt/p/telemetry", b"{\"n\":1}").await;
    client.expect(0x40, &[0, 1, 0x87]).await;
    client.publish(2, 2, "site/bolt/p/telemetry", b"{\"n\":1}").await;
    client.expect(0x50, &[0, 2, 0x87]).await;
    client.publish(1, 3, TOPIC, b"{\"n\":1}").await;
    site.commit(1).await;
    client.expect(0x40, &[0, 3]).await;
    let mut root = site.client().await;
    root.connect(&Connect::new(5, "r").user("root", "open sesame")).await;
    root.publish(1, 1, "site/bolt/p/telemetry", b"{\"n\":1}").await;
    site.intake(1).await.custody.committed();
    root.expect(0x40, &[0, 1]).await;
    assert_eq!(site.counters().unrouted, 2);
}

#[tokio::test]
async fn a_topic_of_nobody_is_told_to_mqtt_5_and_kept_for_the_others() {
    let mut site = Site::start();
    let mut five = site.connected(5, "five").await;
    for (topic, id) in [("elsewhere", 1), ("site/nobody/p/telemetry", 2), ("site/ACME/p/telemetry", 3)] {
        five.publish(1, id, topic, b"{\"n\":1}").await;
        five.expect(0x40, &[0, id as u8, 0x90]).await;
    }
    assert!(site.keeper.0.lock().unwrap().unrouted.is_empty());
    five.publish(0, 0, "elsewhere", b"x").await;
    site.wait("four astray", |seen| seen.unrouted == 4).await;

    let mut three = site.connected(4, "three").await;
    three.publish(1, 7, "elsewhere", b"precious").await;
    three.publish(2, 8, "elsewhere", b"precious").await;
    three.expect_silence().await;
    let custodies: Vec<_> = {
        let mut notes = site.keeper.0.lock().unwrap();
        let letter = &notes.unrouted[1].0;
        assert_eq!((letter.topic.as_str(), letter.payload.as_slice()), ("elsewhere", &b"precious"[..]));
        assert_eq!(letter.reason, "no topic filter of this source matches");
        notes.unrouted.iter_mut().filter_map(|(_, custody)| custody.take()).collect()
    };
    custodies.into_iter().for_each(|custody| custody.committed());
    three.expect(0x40, &[0, 7]).await;
    three.expect(0x50, &[0, 8]).await;
    three.publish(2, 8, "elsewhere", b"precious").await;
    three.expect(0x50, &[0, 8]).await;
    three.send(&[0x62, 2, 0, 8]).await;
    three.expect(0x70, &[0, 8]).await;
    assert_eq!(site.keeper.0.lock().unwrap().unrouted.len(), 3);
    assert!(site.lanes[0].try_recv().is_err());
}

#[tokio::test]
async fn another_users_client_cannot_be_thrown_out() {
    let folder = tempfile::tempdir().unwrap();
    let site = users(&folder).start();
    let mut ada = site.client().await;
    ada.connect(&Connect::new(5, "shared").user("ada", "open sesame")).await;
    let mut root = site.client().await;
    assert_eq!(root.try_connect(&Connect::new(5, "shared").user("root", "open sesame")).await[1], 0x85);
    ada.send(&[0xc0, 0]).await;
    ada.expect(0xd0, &[]).await;
}

/// Certificates of one authority, as files and as rustls wants them.
struct Pki {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { folder, authority }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn listener(&self, require: bool) -> ListenerTls {
        let (certificate, key) = self.issue("gateway");
        std::fs::write(self.path("server.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
        ListenerTls {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: Some(self.path("ca.pem")),
            require_client_certificate: require,
        }
    }

    /// A TLS client that trusts this authority and shows a certificate of `issuer`.
    async fn client(&self, site: &Site, identity: Option<(&Pki, &str)>) -> std::io::Result<Client> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((issuer, name)) => {
                let (certificate, key) = issuer.issue(name);
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain = vec![CertificateDer::from(certificate.der().to_vec())];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let socket = tokio::net::TcpStream::connect(site.handle.address()).await?;
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await?;
        Ok(Client::over(stream))
    }
}

#[tokio::test]
async fn a_client_certificate_names_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let mut plan = users(&folder);
    plan.listener.tls = Some(pki.listener(true));
    let mut site = plan.start();
    let mut pump = pki.client(&site, Some((&pki, "pump"))).await.unwrap();
    pump.connect(&Connect::new(5, "c")).await;
    pump.publish(1, 1, "site/bolt/p/telemetry", b"{\"n\":1}").await;
    pump.expect(0x40, &[0, 1, 0x87]).await;
    // More than one TLS record, and acknowledged over TLS.
    for n in 0..500_u16 {
        pump.publish(1, n + 1, TOPIC, payload(u32::from(n)).as_bytes()).await;
        if n % 50 == 49 {
            site.commit(50).await;
            for id in n - 49..=n {
                pump.expect(0x40, &(id + 1).to_be_bytes()).await;
            }
        }
    }
    let mut eve = pki.client(&site, Some((&pki, "eve"))).await.unwrap();
    assert_eq!(eve.try_connect(&Connect::new(4, "e")).await[1], 5);
    let mut liar = pki.client(&site, Some((&pki, "pump"))).await.unwrap();
    assert_eq!(liar.try_connect(&Connect::new(4, "l").user("ada", "open sesame")).await[1], 5);
}

#[tokio::test]
async fn a_wrong_or_missing_client_certificate_ends_the_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let (pki, other) = (Pki::new(), Pki::new());
    let mut plan = users(&folder);
    plan.listener.tls = Some(pki.listener(true));
    let site = plan.start();
    for identity in [Some((&other, "pump")), None] {
        // With TLS 1.3 the client learns of it by its first read.
        if let Ok(mut client) = pki.client(&site, identity).await {
            client.try_send(&Connect::new(4, "c").packet()).await;
            client.expect_end().await;
        }
    }
    // The client does not trust a server of another authority either.
    assert!(other.client(&site, Some((&other, "pump"))).await.is_err());
    let mut plain = site.client().await;
    plain.try_send(&Connect::new(4, "c").packet()).await;
    while plain.receive().await.is_some() {}
    site.wait("four refused", |seen| seen.refused == 4).await;
    assert_eq!(site.counters().accepted, 0);
}

#[tokio::test]
async fn without_a_certificate_a_password_will_do_where_certificates_are_optional() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new();
    let mut plan = users(&folder);
    plan.listener.tls = Some(pki.listener(false));
    let site = plan.start();
    let mut client = pki.client(&site, None).await.unwrap();
    client.connect(&Connect::new(5, "c").user("ada", "open sesame")).await;
    let mut nobody = pki.client(&site, None).await.unwrap();
    assert_eq!(nobody.try_connect(&Connect::new(5, "d")).await[1], 0x87);
}

#[test]
fn a_listener_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let error = |change: &dyn Fn(&mut gateway_config::Listener)| {
        let mut plan = Plan::default();
        change(&mut plan.listener);
        let keeper = Keeper::default();
        let started = Listener::start(Setup {
            name: "floor".into(),
            listener: plan.listener,
            rules: Arc::from([]),
            gather: plan.gather,
            lanes: Vec::new(),
            held: Vec::new(),
            known: Vec::new(),
            sessions: Box::new(keeper.clone()),
            unrouted: Box::new(keeper),
        });
        started.err().unwrap().to_string()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert!(error(&|listener| listener.listen = address).starts_with(&format!("cannot listen on {address}")));
    let missing = folder.path().join("missing.pem");
    let tls = ListenerTls {
        certificate: missing.clone(),
        key: missing.clone(),
        client_ca: None,
        require_client_certificate: false,
    };
    assert!(error(&|listener| listener.tls = Some(tls.clone())).contains("missing.pem"));
    let user = User { name: "ada".into(), password: Some(Secret::File(missing)), tenant: None };
    let users = [("ada".to_owned(), user)];
    assert!(error(&|listener| listener.users = users.clone().into()).contains("missing.pem"));
}

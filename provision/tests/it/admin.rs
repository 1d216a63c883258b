//! The operator API: what is registered, changed, listed, explained, removed; and that each change is written down.

use provision::api::admin::dto::{
    AuditEntry, Enrolled, EnrolmentChange, EnrolmentView, Explanation, GatewayDetail, GatewayView, KeyAnswer,
    KeyQuestion, NewEnrolment, NewProof, NewStamp, NewTenant, Page, Question, Ring, Share, StampChange,
    StampState, StampView, Status, Tenancy, TenantChange, TenantView,
};
use provision::attestation::derive;
use serde_json::json;
use wire::provisioning::{Bytes, Problem, Registration, Report, Roster, Treatment};

use crate::site::{Ca, Client, GROUP_KEY, Site, identity, unanswered};

fn refused<T: std::fmt::Debug>(result: Result<T, (u16, Problem)>) -> String {
    let (status, problem) = result.unwrap_err();
    assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    format!("{status} {}", problem.code)
}

fn new_stamp(id: &str, max_devices: u32) -> NewStamp {
    NewStamp {
        id: id.parse().unwrap(),
        region: "us".parse().unwrap(),
        environment: "production".parse().unwrap(),
        endpoints: vec![format!("quic://{id}.example:7443")],
        max_devices,
        tenancy: Tenancy::Shared,
        ring: Ring::Slow,
        weight: 100,
    }
}

fn new_tenant(id: &str) -> NewTenant {
    let id = id.parse().unwrap();
    NewTenant { id, regions: vec![], ring: None, dedicated: false, pinned: None, policy: Default::default() }
}

fn new_enrolment(id: &str, proof: NewProof) -> NewEnrolment {
    NewEnrolment {
        id: id.parse().unwrap(),
        proof,
        environment: "production".parse().unwrap(),
        shares: vec![Share { tenant: "acme".parse().unwrap(), devices: 3 }],
        blocked: false,
    }
}

async fn start() -> (Site, Client) {
    let site = Site::start().await;
    let ops = site.client(Some(&site.ca.issue("ops")));
    (site, ops)
}

async fn register(site: &Site, gateway: &str) -> Registration {
    let key = derive(&GROUP_KEY, &gateway.parse().unwrap());
    site.client(None).register_by_key(gateway, Some("by-key"), &key).await.unwrap().0
}

#[tokio::test]
async fn a_stamp_is_registered_changed_and_removed() {
    let (_site, ops) = start().await;
    let added: StampView = ops.post("/v1/admin/stamps", &new_stamp("us-1", 500)).await.unwrap();
    assert_eq!((added.state, added.promised, added.headroom), (StampState::Active, 0, 500));
    let again = ops.post::<StampView>("/v1/admin/stamps", &new_stamp("us-1", 500)).await;
    assert_eq!(refused(again), "409 taken");
    let change = StampChange {
        endpoints: Some(vec!["tls://other.example:443".to_owned()]),
        max_devices: Some(400),
        ring: Some(Ring::Fast),
        state: Some(StampState::Cordoned),
        ..StampChange::default()
    };
    let changed: StampView = ops.patch("/v1/admin/stamps/us-1", &change).await.unwrap();
    assert_eq!((changed.ring, changed.state, changed.max_devices), (Ring::Fast, StampState::Cordoned, 400));
    assert_eq!(
        (changed.weight, changed.endpoints.as_slice()),
        (100, &["tls://other.example:443".to_owned()][..])
    );
    assert_eq!(ops.get::<StampView>("/v1/admin/stamps/us-1").await.unwrap(), changed);
    let draining = StampChange { state: Some(StampState::Draining), ..StampChange::default() };
    assert_eq!(refused(ops.patch::<StampView>("/v1/admin/stamps/us-1", &draining).await), "400 bad_request");
    ops.delete("/v1/admin/stamps/us-1").await.unwrap();
    assert_eq!(refused(ops.get::<StampView>("/v1/admin/stamps/us-1").await), "404 unknown");
    assert_eq!(refused(ops.delete("/v1/admin/stamps/us-1").await), "404 unknown");
}

#[tokio::test]
async fn a_stamp_in_use_stays_and_says_how_full_it_is() {
    let (site, ops) = start().await;
    let stamp = register(&site, "g1").await.assignments[0].stamp.clone();
    let path = format!("/v1/admin/stamps/{stamp}");
    let view: StampView = ops.get(&path).await.unwrap();
    assert_eq!((view.promised, view.headroom, view.assignments), (10, 990, 1));
    let (status, problem) = ops.delete(&path).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (409, "in_use"));
    assert!(problem.message.contains("serves 1 tenants of gateways"), "{}", problem.message);
}

#[tokio::test]
async fn lists_come_in_pages_by_name_without_a_gap() {
    let (_site, ops) = start().await;
    for n in 0..5 {
        ops.post::<TenantView>("/v1/admin/tenants", &new_tenant(&format!("t{n}"))).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page: Page<TenantView> = ops.get(&format!("/v1/admin/tenants?limit=2{after}")).await.unwrap();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.into_iter().map(|tenant| tenant.id.to_string()));
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["acme", "t0", "t1", "t2", "t3", "t4"]);
    for wrong in ["limit=0", "limit=1001", "limit=x", "after=A", "unknown=1"] {
        let page = ops.get::<Page<TenantView>>(&format!("/v1/admin/tenants?{wrong}")).await;
        assert_eq!(refused(page), "400 bad_request", "{wrong}");
    }
}

#[tokio::test]
async fn a_tenants_rule_is_taken_away_by_null_and_stays_where_nothing_is_said() {
    let (_site, ops) = start().await;
    let new = NewTenant { pinned: Some("eu-1".parse().unwrap()), ring: Some(Ring::Fast), ..new_tenant("t") };
    ops.post::<TenantView>("/v1/admin/tenants", &new).await.unwrap();
    let change = TenantChange { pinned: Some(None), dedicated: Some(true), ..TenantChange::default() };
    let changed: TenantView = ops.patch("/v1/admin/tenants/t", &change).await.unwrap();
    assert_eq!((changed.pinned, changed.ring, changed.dedicated), (None, Some(Ring::Fast), true));
    let nowhere = TenantChange { pinned: Some(Some("eu-9".parse().unwrap())), ..TenantChange::default() };
    assert_eq!(refused(ops.patch::<TenantView>("/v1/admin/tenants/t", &nowhere).await), "404 unknown");
    ops.delete("/v1/admin/tenants/t").await.unwrap();
    assert_eq!(refused(ops.delete("/v1/admin/tenants/acme").await), "409 in_use");
}

#[tokio::test]
async fn a_group_enrolled_by_a_key_that_the_service_made_lets_its_gateways_in() {
    let (site, ops) = start().await;
    let proof = NewProof::GroupKey { key: None };
    let enrolled: Enrolled = ops.post("/v1/admin/enrolments", &new_enrolment("line", proof)).await.unwrap();
    let group = enrolled.key.unwrap();
    assert_eq!(group.0.len(), 32);
    let question = KeyQuestion { gateway: "line-1".parse().unwrap() };
    let answer: KeyAnswer = ops.post("/v1/admin/enrolments/line/key", &question).await.unwrap();
    assert_eq!(answer.key.0, derive(&group.0, &question.gateway));
    let (registered, _) =
        site.client(None).register_by_key("line-1", Some("line"), &answer.key.0).await.unwrap();
    assert_eq!(registered.assignments[0].devices, 3);
    let view: EnrolmentView = ops.get("/v1/admin/enrolments/line").await.unwrap();
    assert_eq!((view.proof.as_str(), view.group, view.gateways), ("group-key", true, 1));
    // The secret is nowhere but there.
    let secret = serde_json::to_value(&group).unwrap();
    let secret = secret.as_str().unwrap();
    let audit: Page<AuditEntry> = ops.get("/v1/admin/audit").await.unwrap();
    let derived = String::from(answer.key);
    let shown = format!("{audit:?}{view:?}{:?}", site.log());
    assert!(!shown.contains(secret) && !shown.contains(&derived));
    assert!(audit.items.iter().any(|it| it.action == "enrolment.key" && it.subject == "line"), "{audit:?}");
    assert_eq!(refused(ops.delete("/v1/admin/enrolments/line").await), "409 in_use");
    let of_one = ops.post::<KeyAnswer>("/v1/admin/enrolments/alone/key", &question).await;
    assert_eq!(refused(of_one), "409 unfit");
}

#[tokio::test]
async fn a_gateway_is_enrolled_by_its_certificate_or_the_fingerprint_of_it_once() {
    let (site, ops) = start().await;
    let own = Ca::new("maker").issue("g7");
    let pem = pem(&own.chain[0]);
    let proof = NewProof::Certificate { pem: pem.clone() };
    let enrolled: Enrolled = ops.post("/v1/admin/enrolments", &new_enrolment("g7", proof)).await.unwrap();
    let sha256 = enrolled.enrolment.sha256.unwrap();
    assert!(enrolled.key.is_none() && sha256.len() == 64);
    let same = NewProof::Fingerprint { sha256: sha256.to_uppercase() };
    ops.post::<Enrolled>("/v1/admin/enrolments", &new_enrolment("g7", same.clone())).await.unwrap();
    let taken = ops.post::<Enrolled>("/v1/admin/enrolments", &new_enrolment("g8", same)).await;
    assert_eq!(refused(taken), "409 taken", "a certificate is one gateway's");
    let registered: Registration =
        site.client(Some(&own)).post("/v1/register", &unanswered("g7")).await.unwrap();
    assert_eq!(registered.gateway.as_str(), "g7");
    let no_authority = NewProof::Authority { pem };
    let wrong = ops.post::<Enrolled>("/v1/admin/enrolments", &new_enrolment("group", no_authority)).await;
    assert_eq!(refused(wrong), "400 bad_request", "its certificate is no authority's");
    let maker = Ca::new("other maker");
    let authority = NewProof::Authority { pem: pem_of(&maker.der()) };
    ops.post::<Enrolled>("/v1/admin/enrolments", &new_enrolment("makers", authority)).await.unwrap();
    let bootstrap = maker.issue("g9");
    site.client(Some(&bootstrap)).post::<Registration>("/v1/register", &unanswered("g9")).await.unwrap();
}

fn pem(der: &[u8]) -> String {
    pem_of(der)
}

fn pem_of(der: &[u8]) -> String {
    let text = String::from(Bytes(der.to_vec()));
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_blocked_enrolment_lets_nobody_in_and_its_gateways_follow_what_it_says() {
    let (site, ops) = start().await;
    let key = derive(&GROUP_KEY, &"g1".parse().unwrap());
    let (first, pair) = site.client(None).register_by_key("g1", Some("by-key"), &key).await.unwrap();
    let own = site.client(Some(&identity(&first, &pair)));
    ops.post::<TenantView>("/v1/admin/tenants", &new_tenant("globex")).await.unwrap();
    let shares = vec![
        Share { tenant: "acme".parse().unwrap(), devices: 20 },
        Share { tenant: "globex".parse().unwrap(), devices: 1 },
    ];
    let change = EnrolmentChange { blocked: Some(true), shares: Some(shares), environment: None };
    let changed: EnrolmentView = ops.patch("/v1/admin/enrolments/by-key", &change).await.unwrap();
    assert!(changed.blocked);
    let late = derive(&GROUP_KEY, &"g2".parse().unwrap());
    let late = site.client(None).register_by_key("g2", Some("by-key"), &late).await.map(|_| ());
    assert_eq!(refused(late), "403 blocked");
    let now: Registration = own.get("/v1/assignments").await.unwrap();
    let devices: Vec<_> = now.assignments.iter().map(|it| (it.tenant.to_string(), it.devices)).collect();
    assert_eq!(devices, [("acme".to_owned(), 20), ("globex".to_owned(), 1)]);
    assert_eq!(now.assignments[0].epoch, first.assignments[0].epoch, "it stays where it is");
}

#[tokio::test]
async fn gateways_are_found_by_what_they_have_and_a_blocked_one_is_refused() {
    let (site, ops) = start().await;
    let key = derive(&GROUP_KEY, &"g1".parse().unwrap());
    let (first, pair) = site.client(None).register_by_key("g1", Some("by-key"), &key).await.unwrap();
    let own = site.client(Some(&identity(&first, &pair)));
    site.client(None).register_by_key("alone", None, b"its own").await.unwrap();
    for n in 2..5 {
        register(&site, &format!("g{n}")).await;
    }
    let named = async |filter: &str| -> Vec<String> {
        let page: Page<GatewayView> = ops.get(&format!("/v1/admin/gateways?{filter}")).await.unwrap();
        page.items.into_iter().map(|it| it.id.to_string()).collect()
    };
    assert_eq!(named("").await, ["alone", "g1", "g2", "g3", "g4"]);
    assert_eq!(named("enrolment=alone").await, ["alone"]);
    assert_eq!(named("tenant=acme&after=g1&limit=2").await, ["g2", "g3"]);
    assert_eq!(named("tenant=nobody").await, [""; 0]);
    let (eu_1, eu_2) = (named("stamp=eu-1").await, named("stamp=eu-2&tenant=acme").await);
    assert_eq!(eu_1.len() + eu_2.len(), 5);
    assert!(eu_1.iter().all(|id| !eu_2.contains(id)));

    let detail: GatewayDetail = ops.get("/v1/admin/gateways/g1").await.unwrap();
    assert_eq!(detail.gateway.certificate_ends, first.not_after);
    assert_eq!((detail.assignments[0].epoch, detail.assignments[0].moving.clone()), (1, None));
    let blocked: GatewayDetail = ops.post("/v1/admin/gateways/g1/block", &()).await.unwrap();
    assert!(blocked.gateway.blocked);
    assert_eq!(refused(own.get::<Registration>("/v1/assignments").await), "403 blocked");
    let stamp = &first.assignments[0].stamp;
    let follower = site.client(Some(&site.ca.issue(stamp.as_str())));
    let roster: Roster = follower.get(&format!("/v1/stamps/{stamp}/roster")).await.unwrap();
    let entry = roster.entries.iter().find(|it| it.gateway.as_str() == "g1").unwrap();
    assert_eq!(entry.treatment, Treatment::Blocked);
    ops.post::<GatewayDetail>("/v1/admin/gateways/g1/unblock", &()).await.unwrap();
    own.get::<Registration>("/v1/assignments").await.unwrap();
    assert_eq!(refused(ops.post::<GatewayDetail>("/v1/admin/gateways/g9/block", &()).await), "404 unknown");

    ops.delete("/v1/admin/gateways/g1").await.unwrap();
    assert_eq!(refused(own.get::<Registration>("/v1/assignments").await), "404 unknown");
    let roster: Roster =
        follower.get(&format!("/v1/stamps/{stamp}/roster?after={}", roster.revision)).await.unwrap();
    assert!(matches!(roster.entries[0].treatment, Treatment::Departed { .. }), "{roster:?}");
}

#[tokio::test]
async fn a_choice_is_explained_stamp_by_stamp() {
    let (site, ops) = start().await;
    let question = |gateway: Option<&str>, environment: Option<&str>| Question {
        gateway: gateway.map(|it| it.parse().unwrap()),
        tenant: "acme".parse().unwrap(),
        devices: None,
        environment: environment.map(|it| it.parse().unwrap()),
        stamp: None,
        latencies: vec![],
    };
    let asked: Explanation =
        ops.post("/v1/admin/explain", &question(Some("g1"), Some("production"))).await.unwrap();
    assert_eq!(asked.fitting.first(), asked.stamp.as_ref());
    assert_eq!(asked.fitting.len(), 2);
    assert_eq!((asked.misfits.len(), asked.misfits[0].code.as_str()), (1, "environment"));
    let registered = register(&site, "g1").await;
    assert_eq!(registered.assignments[0].stamp, asked.stamp.unwrap(), "what is said is what is done");
    let known: Explanation = ops.post("/v1/admin/explain", &question(Some("g1"), None)).await.unwrap();
    assert_eq!((known.devices, known.present.unwrap().epoch), (10, 1));
    let nobody = ops.post::<Explanation>("/v1/admin/explain", &question(None, None)).await;
    assert_eq!(refused(nobody), "400 bad_request", "no environment");
    let full = Question { devices: Some(5_000), ..question(None, Some("production")) };
    let full: Explanation = ops.post("/v1/admin/explain", &full).await.unwrap();
    assert!(full.stamp.is_none() && full.fitting.is_empty());
    let eu_1 = full.misfits.iter().find(|it| it.stamp.as_str() == "eu-1").unwrap();
    assert_eq!(eu_1.code, "full");
    assert!(eu_1.why.contains("5000 are wanted"), "{}", eu_1.why);
    let other = json!({ "tenant": "nobody", "environment": "production" });
    assert_eq!(refused(ops.post::<Explanation>("/v1/admin/explain", &other).await), "404 unknown");
}

#[tokio::test]
async fn the_status_tells_when_a_stamp_is_full_and_keeps_what_stamps_said_over_a_crash() {
    let (mut site, ops) = start().await;
    let before: Status = ops.get("/v1/admin/status").await.unwrap();
    assert!(before.authority_ends > before.now && before.started <= before.now);
    assert!(before.stamps.iter().all(|it| it.devices_per_day.is_none()), "too young for a rate");
    // A day ago nothing was promised.
    let now = before.now;
    site.while_down(move |books| books.sample(now - 86_400)).await;
    for n in 0..10 {
        register(&site, &format!("g{n}")).await;
    }
    let report = Report { software: "0.1.0".into(), revision: 7, connected: 3, devices: 21 };
    let eu_1 = site.client(Some(&site.ca.issue("eu-1")));
    eu_1.post::<()>("/v1/stamps/eu-1/report", &report).await.unwrap();
    site.kill_and_restart();
    let ops = site.client(Some(&site.ca.issue("ops")));
    let after: Status = ops.get("/v1/admin/status").await.unwrap();
    assert_eq!((after.counts.gateways, after.counts.devices, after.counts.stamps), (10, 100, 3));
    assert_eq!(after.counts.max_devices, 3_000);
    let eu_1 = after.stamps.iter().find(|it| it.id.as_str() == "eu-1").unwrap();
    let said = eu_1.report.as_ref().unwrap();
    assert_eq!((said.connected, said.devices, said.revision), (3, 21, 7));
    let per_day = eu_1.devices_per_day.unwrap();
    assert!((per_day - f64::from(eu_1.promised)).abs() < 1.0 && eu_1.promised > 0, "{eu_1:?}");
    let days = f64::from(eu_1.headroom) / per_day;
    let full = (eu_1.full_at.unwrap() - after.now) as f64 / 86_400.0;
    assert!((full - days).abs() < 1.0, "full in {full} days, not {days}");
    let test_1 = after.stamps.iter().find(|it| it.id.as_str() == "test-1").unwrap();
    assert_eq!((test_1.devices_per_day, test_1.full_at), (Some(0.0), None), "never, as nothing comes");
}

#[tokio::test]
async fn each_change_is_written_down_with_who_made_it_and_no_refused_one_is() {
    let (site, ops) = start().await;
    ops.post::<StampView>("/v1/admin/stamps", &new_stamp("us-1", 500)).await.unwrap();
    let _ = ops.post::<StampView>("/v1/admin/stamps", &new_stamp("us-1", 500)).await.unwrap_err();
    let change = StampChange { weight: Some(7), ..StampChange::default() };
    ops.patch::<StampView>("/v1/admin/stamps/us-1", &change).await.unwrap();
    ops.delete("/v1/admin/stamps/us-1").await.unwrap();
    let first: Page<AuditEntry> = ops.get("/v1/admin/audit?limit=2").await.unwrap();
    let next = first.next.unwrap();
    let second: Page<AuditEntry> = ops.get(&format!("/v1/admin/audit?limit=2&after={next}")).await.unwrap();
    let all: Vec<_> = first.items.iter().chain(&second.items).collect();
    let actions: Vec<_> = all.iter().map(|it| (it.action.as_str(), it.subject.as_str())).collect();
    assert_eq!(actions, [("stamp.remove", "us-1"), ("stamp.change", "us-1"), ("stamp.add", "us-1")]);
    assert!(all.iter().all(|it| it.operator == "ops" && it.address.starts_with("127.0.0.1:")));
    assert_eq!(all[1].detail, r#"{"weight":7}"#);
    assert!(second.next.is_none());
    let log = site.log().join("\n");
    assert!(log.contains("changed by an operator") && log.contains("a change was refused"), "{log}");
}

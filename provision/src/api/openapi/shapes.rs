//! The shapes of what `wire` says, for the OpenAPI document alone: `wire` itself knows nothing of HTTP.
//!
//! Invariant (tested): what `wire` writes has exactly these fields, and says no more than the document.

use utoipa::ToSchema;

/// A number used once, to be answered with a proof.
#[derive(ToSchema)]
pub struct Challenge {
    /// 32 bytes, as base64.
    pub nonce: String,
    /// It is good for so many seconds.
    pub seconds: u32,
}

/// Not now: come again.
#[derive(ToSchema)]
pub struct Pending {
    /// Not before this time.
    pub retry_after_ms: u64,
    /// With round trips to these.
    #[schema(required = false)]
    pub measure: Vec<Candidate>,
}

/// A stamp that may serve, if it is near.
#[derive(ToSchema)]
pub struct Candidate {
    /// The stamp.
    pub stamp: String,
    /// `quic://host:port`, the better first.
    pub endpoints: Vec<String>,
}

/// A gateway wants to be known.
#[derive(ToSchema)]
pub struct Register {
    /// Its name.
    pub gateway: String,
    /// PKCS #10 signing request (DER, base64) with that name as Common Name.
    pub request: String,
    /// The answer to a challenge; without one the certificate of the TLS handshake counts.
    pub answer: Option<Answer>,
    /// Round trips to stamps that it has measured.
    #[schema(required = false)]
    pub latencies: Vec<Latency>,
    /// Product version, for logs.
    #[schema(required = false)]
    pub software: String,
}

/// The answer to a challenge.
#[derive(ToSchema)]
pub struct Answer {
    /// The challenge's number, as base64.
    pub nonce: String,
    /// The group's enrolment, whose key the gateway's is derived from.
    pub group: Option<String>,
    /// HMAC-SHA256 over `sluice registration v1` and a zero byte, the number, the length of the name (u64 LE), the name,
    /// the signing request; as base64.
    pub mac: String,
}

/// A round trip that a gateway measured.
#[derive(ToSchema)]
pub struct Latency {
    /// To which stamp.
    pub stamp: String,
    /// In microseconds.
    pub micros: u32,
}

/// A new certificate, please.
#[derive(ToSchema)]
pub struct Renew {
    /// PKCS #10 signing request (DER, base64) in the gateway's name.
    pub request: String,
}

/// What a gateway has been given.
#[derive(ToSchema)]
pub struct Registration {
    /// The gateway.
    pub gateway: String,
    /// Where it goes to.
    pub environment: String,
    /// Its operational certificate and those behind it: PEM. Absent where none was asked for.
    pub certificate: Option<String>,
    /// When that ends: seconds since 1970 UTC.
    pub not_after: Option<i64>,
    /// The authorities that stamps' certificates come from: PEM.
    pub trust: String,
    /// Per tenant its stamp.
    pub assignments: Vec<Assigned>,
    /// Grows with every change of the assignments: what to ask for news after.
    pub revision: u64,
    /// The service's time: seconds since 1970 UTC.
    pub now: i64,
}

/// A tenant's stamp.
#[derive(ToSchema)]
pub struct Assigned {
    /// The tenant.
    pub tenant: String,
    /// The stamp.
    pub stamp: String,
    /// `quic://host:port`, the better first.
    pub endpoints: Vec<String>,
    /// Grows with every move of this tenant of this gateway.
    pub epoch: u64,
    /// Devices promised.
    pub devices: u32,
    /// What becomes of what was not sent before this epoch.
    pub backlog: Backlog,
    /// The last epoch at whose beginning the backlog was given up; 0: at none.
    pub dropped: u64,
}

/// What becomes of what a gateway has not sent when a tenant moves.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Backlog {
    /// It goes to the new stamp.
    Carry,
    /// It is given up, with a receipt: test data never reaches production.
    Drop,
}

/// What becomes of what a stamp has landed of a tenant that has moved elsewhere.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum CopyPolicy {
    /// It stays, for as long as the stamp keeps copies.
    Keep,
    /// It is written to a file beside the stamp's database, with a receipt, and stays.
    Export,
    /// It is deleted for good, with a receipt.
    Delete,
}

/// No.
#[derive(ToSchema)]
pub struct Problem {
    /// In one word, for programs.
    pub code: String,
    /// For a person.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// Where coming again may help: not before this time.
    pub retry_after_ms: Option<u64>,
}

/// The changes of a stamp's roster after a revision.
#[derive(ToSchema)]
pub struct Roster {
    /// Up to which revision.
    pub revision: u64,
    /// Whether there is more after this.
    pub more: bool,
    /// The changed entries, each as it is now.
    pub entries: Vec<RosterEntry>,
}

/// A tenant of a gateway, as a stamp has to treat it.
#[derive(ToSchema)]
pub struct RosterEntry {
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// The epoch of this treatment.
    pub epoch: u64,
    /// How.
    pub treatment: Treatment,
}

/// How a stamp treats a tenant of a gateway.
#[derive(serde::Serialize, ToSchema)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Treatment {
    /// Takes its data.
    Served {
        /// Of at most so many devices.
        devices: u32,
        /// What the stamp before has landed: per stream pairs of first and last number.
        landed: Vec<(u64, Vec<(u64, u64)>)>,
    },
    /// Takes nothing more, and says what it has.
    Departed {
        /// Whether its watermark is still wanted.
        watermark_wanted: bool,
    },
    /// Takes nothing: an operator has blocked the gateway.
    Blocked,
}

/// A stamp takes nothing more of a tenant of a gateway, and has landed this of it.
#[derive(ToSchema)]
pub struct Fenced {
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// The epoch of the departure.
    pub epoch: u64,
    /// What it has landed: per stream pairs of first and last number.
    pub landed: Vec<(u64, Vec<(u64, u64)>)>,
}

/// What becomes of the copy of a tenant that has gone.
#[derive(ToSchema)]
pub struct FenceAnswer {
    /// Anything but `keep` says as well that the move is complete, and is not taken back any more.
    pub copy: CopyPolicy,
}

/// A stamp tells its receipts.
#[derive(ToSchema)]
pub struct Receipts {
    /// The name of the stamp's log, which is drawn by lot.
    pub log: u64,
    /// They are all that follow this number; absent: none is told, what is known is asked for.
    pub after: Option<u64>,
    /// By number; at most 500.
    pub receipts: Vec<Receipt>,
}

/// Up to where receipts are known.
#[derive(ToSchema)]
pub struct ReceiptsKept {
    /// Up to which number of the log all are known.
    pub up_to: u64,
}

/// A receipt of a tenant of a gateway.
#[derive(ToSchema)]
pub struct Receipt {
    /// Its number in the stamp's log, from 1.
    pub number: u64,
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// When it came about: nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Rows that it is about.
    pub rows: u64,
    /// What was done with them.
    pub what: Receipted,
}

/// What a receipt is given for.
#[derive(serde::Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Receipted {
    /// The gateway gave them up before they had landed.
    Loss {
        /// In which life of the tenant's store.
        stream: u64,
        /// First number.
        first: u64,
        /// Last number.
        last: u64,
        /// Why; at most 256 bytes.
        reason: String,
    },
    /// The stamp has deleted its copy of a tenant that had gone.
    Deletion {
        /// The epoch of its departure.
        epoch: u64,
        /// Batches.
        batches: u64,
        /// Bytes of their payloads.
        bytes: u64,
        /// By which they can be known again: 64 hexadecimal digits.
        sha256: String,
    },
    /// The stamp has written its copy of a tenant that had gone to a file.
    Export {
        /// The epoch of its departure.
        epoch: u64,
        /// Batches.
        batches: u64,
        /// Bytes of the file.
        bytes: u64,
        /// Of the file: 64 hexadecimal digits.
        sha256: String,
        /// Where it is, in the stamp's data folder; at most 256 bytes.
        file: String,
    },
}

/// How a stamp stands.
#[derive(ToSchema)]
pub struct Report {
    /// Product version.
    pub software: String,
    /// The revision of the roster it works by.
    pub revision: u64,
    /// Gateways connected.
    pub connected: u32,
    /// Devices that have landed data.
    pub devices: u32,
}

/// What the gateways of a stamp's ring should run, as far as it has changed after a revision.
#[derive(ToSchema)]
pub struct DesiredStates {
    /// The stamp's ring.
    pub ring: String,
    /// Up to which revision.
    pub revision: u64,
    /// Whether there is more after this.
    pub more: bool,
    /// What is not named here is not desired any more.
    pub full: bool,
    /// The changed states, each as it is now.
    pub states: Vec<DesiredState>,
}

/// What a tenant's gateways should run.
#[derive(ToSchema)]
pub struct DesiredState {
    /// The tenant.
    pub tenant: String,
    /// The release; 0: what each gateway's own file says.
    pub release: u64,
    /// Whether the release after it was taken back.
    pub rollback: bool,
    /// The document; it is fetched like a content.
    pub document: Option<ContentRef>,
    /// The contents it names.
    #[schema(required = false)]
    pub contents: Vec<ContentRef>,
}

/// A content by its digest.
#[derive(ToSchema)]
pub struct ContentRef {
    /// SHA-256: 64 hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// How the gateways of a stamp are with what they should run.
#[derive(ToSchema)]
pub struct Conditions {
    /// The revision up to which the stamp tells its gateways what is desired.
    pub revision: u64,
    /// At most 500.
    pub tenants: Vec<TenantConditions>,
}

/// How a tenant's gateways are.
#[derive(ToSchema)]
pub struct TenantConditions {
    /// The tenant.
    pub tenant: String,
    /// Gateways connected for it now.
    pub connected: u32,
    /// Per release.
    pub releases: Vec<ReleaseCondition>,
}

/// How a release does: sums over gateways.
#[derive(ToSchema)]
pub struct ReleaseCondition {
    /// Which.
    pub release: u64,
    /// Gateways that are getting it.
    pub fetching: u32,
    /// Gateways that run it.
    pub applied: u32,
    /// Gateways that will not run it.
    pub refused: u32,
    /// Gateways that ran it and have gone back.
    pub rolled_back: u32,
    /// Rows that went in.
    pub rows: u64,
    /// Calls that failed.
    pub faults: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// Some reasons of refusals and ways back.
    #[schema(required = false)]
    pub reasons: Vec<String>,
}

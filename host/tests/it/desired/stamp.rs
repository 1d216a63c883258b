//! A stamp that says what should run: what is offered can be changed at any time, contents are served piece by piece as told, and
//! conditions and rows are kept for the test to look at.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use wire::codec::{Limits, decode};
use wire::frame::Values;
use wire::ids::{Digest, Release, StampId};
use wire::message::{Admission, Condition, ContentRef, Desired, TenantIndex};
use wire::ranges::RangeSet;
use wire::session::stamp::{Event, Session};

use crate::pki::Pki;

/// Bytes of a piece: small, so that contents are many.
pub(crate) const PIECE: usize = 16 << 10;

/// What should run.
#[derive(Clone, Default)]
pub(crate) struct Offer {
    pub(crate) number: u64,
    pub(crate) rollback: bool,
    pub(crate) document: Vec<u8>,
    pub(crate) contents: Vec<(Digest, Vec<u8>)>,
    /// Contents are not to be had.
    pub(crate) hidden: bool,
}

impl Offer {
    /// A release with these files; `{0}`, `{1}` … in the document are their digests.
    pub(crate) fn new(number: u64, document: &str, files: &[Vec<u8>]) -> Self {
        let contents: Vec<_> =
            files.iter().map(|file| (Digest(Sha256::digest(file).into()), file.clone())).collect();
        let mut document = document.to_owned();
        for (place, (digest, _)) in contents.iter().enumerate() {
            document = document.replace(&format!("{{{place}}}"), &digest.to_string());
        }
        Self { number, rollback: false, document: document.into_bytes(), contents, hidden: false }
    }

    pub(crate) fn back(self) -> Self {
        Self { rollback: true, ..self }
    }

    fn desired(&self) -> Desired {
        let content =
            |(digest, file): &(Digest, Vec<u8>)| ContentRef { digest: *digest, size: file.len() as u64 };
        Desired {
            tenant: TenantIndex(0),
            release: Release(self.number),
            rollback: self.rollback,
            contents: self.contents.iter().map(content).collect(),
            document: Bytes::from(self.document.clone()),
        }
    }
}

/// A row as it landed: texts and whole numbers by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) time: i64,
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) numbers: BTreeMap<String, i64>,
}

#[derive(Default)]
struct Kept {
    landed: RangeSet,
    rows: Vec<Row>,
    conditions: Vec<Condition>,
    fetches: Vec<(Digest, u64)>,
    sessions: usize,
}

struct Shared {
    offer: watch::Sender<Option<Offer>>,
    /// Pieces that are served before the next one has to wait.
    pieces: watch::Sender<usize>,
    kept: Mutex<Kept>,
}

/// The running server. Dropped, it is gone without a word.
pub(crate) struct ReleaseStamp {
    port: u16,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

impl ReleaseStamp {
    pub(crate) fn start(pki: &Pki, offer: Option<Offer>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = runtime.enter();
        let endpoint = quinn::Endpoint::server(pki.quic_server(), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let port = endpoint.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            offer: watch::channel(offer).0,
            pieces: watch::channel(usize::MAX).0,
            kept: Mutex::default(),
        });
        let all = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let shared = Arc::clone(&all);
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    serve(&shared, &connection).await;
                });
            }
        });
        drop(inside);
        Self { port, shared, _runtime: runtime }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on this should run; nothing is said of it with `None`.
    pub(crate) fn offer(&self, offer: impl Into<Option<Offer>>) {
        self.shared.offer.send_replace(offer.into());
    }

    /// Serves so many pieces, and then none until it is told again.
    pub(crate) fn serve_pieces(&self, most: usize) {
        self.shared.pieces.send_replace(most);
    }

    pub(crate) fn conditions(&self) -> Vec<Condition> {
        self.kept(|kept| kept.conditions.clone())
    }

    /// Pieces that were asked for, in order.
    pub(crate) fn fetches(&self) -> Vec<(Digest, u64)> {
        self.kept(|kept| kept.fetches.clone())
    }

    /// Rows that landed, by time.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = self.kept(|kept| kept.rows.clone());
        rows.sort_by_key(|row| row.time);
        rows
    }

    pub(crate) fn sessions(&self) -> usize {
        self.kept(|kept| kept.sessions)
    }

    fn kept<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.shared.kept.lock().unwrap())
    }
}

async fn serve(shared: &Shared, connection: &quinn::Connection) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let mut session = Session::new(StampId::new("s1").unwrap());
    let (mut offered, mut pieces) = (shared.offer.subscribe(), shared.pieces.subscribe());
    let mut asked: Option<(Digest, u64)> = None;
    let mut open = false;
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Hello(hello) => {
                    let landed = shared.kept.lock().unwrap().landed.clone();
                    let answer = |_| Admission::Admitted {
                        landed: landed.clone(),
                        device_quota: None,
                        window: 1 << 20,
                    };
                    session.welcome(hello.tenants.iter().map(answer).collect());
                    shared.kept.lock().unwrap().sessions += 1;
                    (open, asked) = (true, None);
                    offered.mark_changed();
                }
                Event::Batch(batch) => {
                    let mut kept = shared.kept.lock().unwrap();
                    if kept.landed.insert(batch.seq) {
                        kept.rows.extend(rows(&batch.payload));
                    }
                    drop(kept);
                    session.landed(batch.tenant, batch.seq, batch.seq);
                }
                Event::Loss(loss) => session.landed(loss.tenant, loss.from, loss.to),
                Event::Fetch(fetch) => {
                    shared.kept.lock().unwrap().fetches.push((fetch.digest, fetch.offset));
                    asked = Some((fetch.digest, fetch.offset));
                }
                Event::Condition(condition) => shared.kept.lock().unwrap().conditions.push(condition),
                Event::Closed(_) => {}
            }
        }
        if open
            && offered.has_changed().unwrap_or(false)
            && let Some(offer) = offered.borrow_and_update().clone()
        {
            session.desired(offer.desired()).unwrap();
        }
        if asked.is_some() && *pieces.borrow_and_update() > 0 {
            shared.pieces.send_if_modified(|left| {
                *left = left.saturating_sub(usize::from(*left != usize::MAX));
                false
            });
            answer(shared, &mut session, asked.take());
        }
        while let Some(chunk) = session.poll_transmit() {
            if send.write_all(&chunk).await.is_err() {
                return;
            }
        }
        tokio::select! {
            read = receive.read_chunk(64 << 10, true) => match read {
                Ok(Some(chunk)) => session.receive(&chunk.bytes),
                _ => return,
            },
            _ = offered.changed(), if open => offered.mark_changed(),
            _ = pieces.changed() => {}
        }
    }
}

fn answer(shared: &Shared, session: &mut Session, asked: Option<(Digest, u64)>) {
    let Some((digest, offset)) = asked else { return };
    let offer = shared.offer.borrow().clone().unwrap_or_default();
    match offer.contents.iter().find(|(of, _)| *of == digest && !offer.hidden) {
        Some((_, file)) => {
            let rest = &file[offset as usize..];
            session.content(file.len() as u64, Bytes::copy_from_slice(&rest[..rest.len().min(PIECE)]));
        }
        None => session.content_missing(),
    }
}

fn rows(payload: &Bytes) -> Vec<Row> {
    let mut rows = Vec::new();
    for frame in decode(payload, &Limits::default()).unwrap() {
        for at in 0..frame.rows() {
            let mut row = Row { time: frame.time[at], ..Row::default() };
            for column in &frame.columns {
                let name = column.name.clone();
                match &column.values {
                    Values::Text(texts) => {
                        row.texts.insert(name, texts.get(at).unwrap_or_default().to_owned());
                    }
                    Values::I64(numbers) => {
                        row.numbers.insert(name, numbers[at]);
                    }
                    _ => {}
                }
            }
            rows.push(row);
        }
    }
    rows
}

/// A time within which anything here is done.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

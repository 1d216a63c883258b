//! The stamp's configuration file.
//!
//! ```toml
//! [stamp]
//! id = "eu-1"
//! data_dir = "/var/lib/sluice-stamp"
//! listen = "0.0.0.0:7443"             # QUIC, i.e. UDP
//! max_devices = 10000
//! identity = { certificate = "stamp.crt", key = "stamp.key", trust = "ca.crt" }
//! roster = "roster.toml"              # or, instead of it, the table [provisioning]
//!
//! # What follows has defaults:
//! listen_tcp = "0.0.0.0:7443"         # for gateways behind networks that block UDP; default: as `listen`; or "off"
//! identity_hold = "10 min"
//! admit_per_second = 500              # gateways let in per second; the others are told when to come
//! landing_queue_mib = 64              # payload that waits to be written; crowded, it slows the gateways down
//! keep = "30 d"                       # what landed longer ago is deleted; default: nothing ever is
//! delete_departed_after = "7 d"       # copies of tenants that went to another stamp longer ago; default: kept
//!
//! [provisioning]                      # the roster is followed from there, with the stamp's own certificate
//! endpoint = "https://provision.example:8443"
//! trust = "ca.crt"                    # the authorities that provisioning's certificate must come from
//! ```
//! Paths are relative to the file's own folder. Reads and checks; opens nothing that it names.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backoff::duration::Written;
use serde::Deserialize;
use wire::ids::StampId;

use crate::document::{self, ConfigError, ConfigErrors, Document, Table};

/// Gateways let in per second unless the file says otherwise: about half of what one core does (`cargo xtask bench crowd`).
pub const ADMIT_PER_SECOND: NonZeroU32 = NonZeroU32::new(500).unwrap();
/// Payload that may wait to be written, unless the file says otherwise.
pub const LANDING_QUEUE_MIB: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// The most that `landing_queue_mib` may say: it is memory.
pub const MAX_LANDING_QUEUE_MIB: u32 = 16 * 1_024;
/// What `identity_hold` is unless the file says otherwise.
const IDENTITY_HOLD: Duration = Duration::from_secs(600);

/// Where the stamp's certificate, key and trusted authorities are: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that gateways' certificates must come from.
    pub trust: PathBuf,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The stamp's name, as gateways are told.
    pub id: StampId,
    /// Folder of the landing database, and of the keys with which a restarted stamp ends connections of its former life.
    pub data_dir: PathBuf,
    /// Address and UDP port to receive on.
    pub listen: SocketAddr,
    /// Address and TCP port to receive on; `None`: by UDP only. With port 0 it is the one of `listen`.
    pub listen_tcp: Option<SocketAddr>,
    /// The capacity this stamp is built for: devices beyond it are refused.
    pub max_devices: u32,
    /// Certificate, key, trust.
    pub identity: Identity,
    /// Where the gateways and tenants served are known from.
    pub roster: RosterSource,
    /// How long a gateway's identity stays with its installation after it was last seen.
    pub identity_hold: Duration,
    /// Gateways let in per second; one more is told its moment to come back.
    pub admit_per_second: NonZeroU32,
    /// MiB of payload that wait to be written; who has more waits.
    pub landing_queue_mib: NonZeroU32,
    /// How long landed batches are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// How long copies of tenants that have gone to another stamp are kept; `None`: until an operator deletes them.
    pub delete_departed_after: Option<Duration>,
}

/// Where the gateways and tenants served are known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterSource {
    /// A file.
    File(PathBuf),
    /// Provisioning.
    Provisioning(Provisioning),
}

/// Where provisioning is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    /// `https://host:port`.
    pub endpoint: String,
    /// The authorities that its certificate must come from: a PEM file.
    pub trust: PathBuf,
}

/// What can be known of a file, also if some of it is wrong.
#[derive(Debug)]
pub struct Examined {
    /// Where the gateways are known from.
    pub roster: Option<RosterSource>,
    /// The files of certificates.
    pub identity: Option<Identity>,
    /// All of it, or all that is wrong.
    pub config: Result<Config, ConfigErrors>,
}

/// Either an address or "off".
#[derive(Deserialize)]
#[serde(untagged)]
enum ListenTcp {
    At(SocketAddr),
    Other(String),
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// All that is wrong with it, with file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::examine(path).config
    }

    /// Reads a configuration file as far as it can be read.
    #[must_use]
    pub fn examine(path: &Path) -> Examined {
        let text = match document::text(path) {
            Ok(text) => text,
            Err(error) => {
                return Examined { roster: None, identity: None, config: Err(ConfigErrors(vec![error])) };
            }
        };
        let document = Document::new(path, &text);
        let mut root = document.table();
        let folder = path.parent().unwrap_or(Path::new(""));
        let stamp = root.table("stamp");
        let provisioning = root.optional_table("provisioning");
        let (roster, identity, config) = match stamp {
            Some(stamp) => read(stamp, provisioning, folder, &document),
            None => (None, None, None),
        };
        root.finish();
        let errors: Vec<ConfigError> = document.into_errors();
        let config = match config {
            Some(config) if errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors(errors)),
        };
        Examined { roster, identity, config }
    }
}

/// Exactly one of both must be there.
fn roster_source(
    stamp: &mut Table<'_, '_>,
    provisioning: Option<Table<'_, '_>>,
    folder: &Path,
    document: &Document<'_>,
) -> Option<RosterSource> {
    let file = stamp.optional::<PathBuf>("roster");
    match (file, provisioning) {
        (Some(path), None) => Some(RosterSource::File(folder.join(path))),
        (None, Some(mut table)) => {
            let endpoint = table.required::<String>("endpoint").inspect(|endpoint| {
                if let Err(cause) = crate::provisioning::check_endpoint(endpoint) {
                    let cause = format!(
                        "provisioning.endpoint: {cause}: write e.g. \"https://provision.example:8443\""
                    );
                    document.wrong(table.at(), cause);
                }
            });
            let trust = table.required::<PathBuf>("trust");
            table.finish();
            Some(RosterSource::Provisioning(Provisioning { endpoint: endpoint?, trust: folder.join(trust?) }))
        }
        (Some(_), Some(table)) => {
            let cause = "the roster comes from stamp.roster already: delete that line to follow provisioning, or this table";
            document.wrong(table.at(), format!("provisioning: {cause}"));
            None
        }
        (None, None) => {
            // A roster that is there and is wrong was said already.
            if !stamp.was_there("roster") {
                let cause =
                    "missing field `roster`: write roster = \"roster.toml\", or a table [provisioning]";
                document.wrong(stamp.at(), cause.to_owned());
            }
            None
        }
    }
}

fn read(
    mut stamp: Table<'_, '_>,
    provisioning: Option<Table<'_, '_>>,
    folder: &Path,
    document: &Document<'_>,
) -> (Option<RosterSource>, Option<Identity>, Option<Config>) {
    let id = stamp.required("id");
    let data_dir = stamp.required::<PathBuf>("data_dir");
    let listen = stamp.required::<SocketAddr>("listen");
    let listen_tcp = stamp.checked("listen_tcp", |written| match written {
        ListenTcp::Other(text) if text != "off" => {
            Err(format!("{text:?} is no address: write e.g. \"0.0.0.0:7443\", or \"off\" for QUIC only"))
        }
        _ => Ok(()),
    });
    let max_devices = stamp.required("max_devices");
    let identity = stamp.required::<Identity>("identity").map(|mut identity| {
        let Identity { certificate, key, trust } = &mut identity;
        for path in [certificate, key, trust] {
            *path = folder.join(&*path);
        }
        identity
    });
    let roster = roster_source(&mut stamp, provisioning, folder, document);
    let identity_hold = stamp.optional::<Written>("identity_hold").map(|written| written.0);
    let admit_per_second = stamp.optional("admit_per_second");
    let landing_queue_mib = stamp.checked("landing_queue_mib", |mib: &NonZeroU32| {
        let most = MAX_LANDING_QUEUE_MIB;
        if mib.get() <= most { Ok(()) } else { Err(format!("at most {most} (it is memory)")) }
    });
    let keep = stamp.checked("keep", |written: &Written| {
        if written.0 < Duration::from_secs(1) {
            return Err("below 1 s nothing would be there to be read".to_owned());
        }
        Ok(())
    });
    let delete_departed_after = stamp.optional::<Written>("delete_departed_after").map(|written| written.0);
    stamp.finish();
    let config = (|| {
        let listen = listen?;
        Some(Config {
            id: id?,
            data_dir: folder.join(data_dir?),
            listen,
            listen_tcp: match listen_tcp {
                None => Some(listen),
                Some(ListenTcp::At(address)) => Some(address),
                Some(ListenTcp::Other(_)) => None,
            },
            max_devices: max_devices?,
            identity: identity.clone()?,
            roster: roster.clone()?,
            identity_hold: identity_hold.unwrap_or(IDENTITY_HOLD),
            admit_per_second: admit_per_second.unwrap_or(ADMIT_PER_SECOND),
            landing_queue_mib: landing_queue_mib.unwrap_or(LANDING_QUEUE_MIB),
            keep: keep.map(|written| written.0),
            delete_departed_after,
        })
    })();
    (roster, identity, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[stamp]
id = "eu-1"
data_dir = "data"
listen = "127.0.0.1:0"
max_devices = 100
identity = { certificate = "a.crt", key = "a.key", trust = "ca.crt" }
roster = "/etc/roster.toml"
"#;

    fn load(text: &str) -> Result<Config, ConfigErrors> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stamp.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map(|mut config| {
            config.data_dir = config.data_dir.strip_prefix(folder.path()).unwrap().to_owned();
            config
        })
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.data_dir, Path::new("data"));
        assert_eq!(config.roster, RosterSource::File("/etc/roster.toml".into()));
        assert_eq!(config.identity_hold, Duration::from_secs(600));
        assert_eq!(config.listen_tcp, Some(config.listen));
        assert_eq!((config.admit_per_second.get(), config.landing_queue_mib.get()), (500, 64));
        assert_eq!(config.keep, None);
    }

    #[test]
    fn what_has_a_default_can_be_written() {
        let more = "listen_tcp = \"off\"\nadmit_per_second = 7\nlanding_queue_mib = 1\nkeep = \"30 d\"\ndelete_departed_after = \"7 d\"\n";
        let config = load(&format!("{GOOD}{more}")).unwrap();
        assert_eq!(config.listen_tcp, None);
        assert_eq!((config.admit_per_second.get(), config.landing_queue_mib.get()), (7, 1));
        assert_eq!(config.keep, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(config.delete_departed_after, Some(Duration::from_secs(7 * 86_400)));
        let config = load(&format!("{GOOD}listen_tcp = \"127.0.0.1:9\"\n")).unwrap();
        assert_eq!(config.listen_tcp, Some("127.0.0.1:9".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_key() {
        for (from, to, line, said) in [
            ("id = \"eu-1\"", "id = \"EU 1\"", 2, "stamp id must not contain 'E'"),
            ("max_devices = 100", "max_devices = -1", 5, "max_devices"),
            ("max_devices = 100", "max_device = 100", 5, "unknown field `max_device`"),
            ("listen = \"127.0.0.1:0\"", "listen = \"everywhere\"", 4, "listen"),
            ("roster = \"/etc/roster.toml\"", "identity_hold = \"10\"", 7, "no unit"),
            ("roster = \"/etc/roster.toml\"\n", "", 1, "missing field `roster`"),
            ("data_dir = \"data\"", "id = \"eu-2\"", 3, "duplicate key"),
            (
                "max_devices = 100",
                "max_devices = 100\nlisten_tcp = \"on\"",
                6,
                "listen_tcp: \"on\" is no address",
            ),
            ("max_devices = 100", "max_devices = 100\nadmit_per_second = 0", 6, "admit_per_second"),
            ("max_devices = 100", "max_devices = 100\nlanding_queue_mib = 99999", 6, "at most 16384"),
            ("max_devices = 100", "max_devices = 100\nkeep = \"10 ms\"", 6, "keep: below 1 s"),
        ] {
            let ConfigErrors(errors) = load(&GOOD.replace(from, to)).unwrap_err();
            let there = errors.iter().any(|error| {
                matches!(error, ConfigError::Wrong { line: found, cause, .. } if *found == line && cause.contains(said))
            });
            assert!(there, "{said:?} at {line} is not in {errors:?}");
        }
    }

    #[test]
    fn the_roster_comes_from_a_file_or_from_provisioning() {
        let file = "roster = \"/etc/roster.toml\"\n";
        let table = "[provisioning]\nendpoint = \"https://p:8443\"\ntrust = \"/etc/ca.crt\"\n";
        let followed = format!("{}{table}", GOOD.replace(file, ""));
        let RosterSource::Provisioning(provisioning) = load(&followed).unwrap().roster else {
            panic!("no file")
        };
        assert_eq!(
            (provisioning.endpoint.as_str(), provisioning.trust.as_path()),
            ("https://p:8443", Path::new("/etc/ca.crt"))
        );
        for (text, line, said) in [
            (format!("{GOOD}{table}"), 8, "delete that line to follow provisioning"),
            (followed.replace("https", "http"), 7, "provisioning.endpoint"),
            (followed.replace("trust", "thrust"), 9, "unknown field `thrust`"),
            (GOOD.replace(file, ""), 1, "or a table [provisioning]"),
        ] {
            let ConfigErrors(errors) = load(&text).unwrap_err();
            let there = errors.iter().any(|error| {
                matches!(error, ConfigError::Wrong { line: found, cause, .. } if *found == line && cause.contains(said))
            });
            assert!(there, "{said:?} at {line} is not in {errors:?}");
        }
    }

    #[test]
    fn all_mistakes_are_said_in_the_order_of_their_lines() {
        let text = GOOD
            .replace("id = \"eu-1\"", "id = \"EU 1\"")
            .replace("data_dir", "data_folder")
            .replace("max_devices = 100", "max_devices = \"many\"\nkeep = 30");
        let ConfigErrors(errors) = load(&text).unwrap_err();
        let said: Vec<(usize, &str)> = errors
            .iter()
            .map(|error| match error {
                ConfigError::Wrong { line, cause, .. } => (*line, cause.as_str()),
                other => panic!("{other}"),
            })
            .collect();
        let lines: Vec<usize> = said.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 5, 6], "{said:?}");
        assert!(
            said[0].1.contains("missing field `data_dir`")
                && said[2].1.contains("unknown field `data_folder`")
        );
        assert!(said[4].1.contains("no unit"), "{said:?}");
    }
}

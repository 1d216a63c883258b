//! `sluice-provision enrolment`: which gateways the cloud knows of, and by what they prove who they are.
//!
//! Keys come from a file, from standard input, or are made; they are never arguments, and shown by `key` alone.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use wire::ids::{EnrolmentId, Environment, GatewayId, TenantId};
use wire::provisioning::Bytes;
use wire::table::{Set, count, table};

use super::reply::{Failure, Reply, answer, print, removed};
use super::show::{facts, list, shares};
use super::{Part, With};
use crate::api::admin::dto::{EnrolmentChange, EnrolmentView, NewEnrolment, NewProof, Share};
use crate::operator::Client;

/// Bytes of a key that is made here.
const KEY_BYTES: usize = 32;
/// Most bytes of a file with a key or certificates.
const MAX_FILE_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct EnrolmentArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: EnrolmentCommand,
}

#[derive(Debug, Subcommand)]
enum EnrolmentCommand {
    /// Enrols a gateway or a group: how they prove who they are, where they go to, which tenants they serve.
    #[command(after_help = "Examples:\n  \
        a group, each gateway with a key derived from one that never leaves the service:\n    \
        sluice-provision enrolment add line-gateways --environment test --tenant acme=50 --by-new-group-key\n    \
        sluice-provision enrolment key line-gateways plant7-line2 > plant7-line2.key\n  \
        a group, by the authority that their manufacturer's certificates come from:\n    \
        sluice-provision enrolment add boxes --environment production --tenant acme=50 --by-authority maker-ca.crt\n  \
        one gateway, by its certificate, or by a key of its own:\n    \
        sluice-provision enrolment add plant7-line2 --environment production --tenant acme=50 --by-certificate plant7-line2.crt\n    \
        sluice-provision enrolment add plant7-line3 --environment production --tenant acme=50 --by-new-key plant7-line3.key")]
    Add {
        /// Its id; of a single gateway, the gateway's.
        id: EnrolmentId,
        /// The stamps its gateways go to, e.g. test or production.
        #[arg(long)]
        environment: Environment,
        /// A tenant that each of its gateways serves, and its devices expected there; may be repeated.
        #[arg(long = "tenant", value_name = "TENANT=DEVICES", required = true, value_parser = share)]
        shares: Vec<Share>,
        #[command(flatten)]
        by: By,
        /// Nobody registers by it before `enrolment unblock`.
        #[arg(long)]
        blocked: bool,
    },
    /// Shows all enrolments.
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Shows one enrolment.
    Show {
        /// Its id.
        id: EnrolmentId,
    },
    /// Changes an enrolment; what is not named stays.
    ///
    /// Gateways that are there get new tenants, and other numbers of devices, when they ask next; what they have of a tenant
    /// that is not named any more stays. Another environment counts for gateways that register from now on: see `promote`.
    Set {
        /// Its id.
        id: EnrolmentId,
        /// Instead of all it has: a tenant and its devices at each gateway; may be repeated.
        #[arg(long = "tenant", value_name = "TENANT=DEVICES", value_parser = share)]
        shares: Vec<Share>,
        /// The stamps that new gateways go to.
        #[arg(long)]
        environment: Option<Environment>,
    },
    /// Lets nobody register by it any more. Gateways that have registered go on: see `gateway block`.
    Block {
        /// Its id.
        id: EnrolmentId,
    },
    /// Lets gateways register by it again.
    Unblock {
        /// Its id.
        id: EnrolmentId,
    },
    /// Shows the key of a gateway of a group, for its `symmetric_key_file`: the one secret that is ever shown.
    #[command(after_help = "Examples:\n  \
        sluice-provision enrolment key line-gateways plant7-line2 > plant7-line2.key\n  \
        sluice-provision enrolment key line-gateways plant7-line2 plant7-line3 --folder keys")]
    Key {
        /// The group.
        id: EnrolmentId,
        /// The gateway; several with --folder.
        #[arg(required = true)]
        gateways: Vec<GatewayId>,
        /// Into FOLDER/GATEWAY.key, which only the owner may read, instead of to standard output.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Forgets an enrolment by which no gateway has registered.
    Remove {
        /// Its id.
        id: EnrolmentId,
    },
}

/// How gateways prove who they are.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct By {
    /// One gateway, by its certificate (PEM).
    #[arg(long, value_name = "FILE", help_heading = "How they prove who they are, one of")]
    by_certificate: Option<PathBuf>,
    /// One gateway, by the SHA-256 of its certificate: 64 hexadecimal digits.
    #[arg(long, value_name = "SHA256", help_heading = "How they prove who they are, one of")]
    by_fingerprint: Option<String>,
    /// A group, by the authority of their certificates (PEM); the Common Name of each is the gateway's id.
    #[arg(long, value_name = "FILE", help_heading = "How they prove who they are, one of")]
    by_authority: Option<PathBuf>,
    /// One gateway, by a key in base64; - is standard input.
    #[arg(long, value_name = "FILE", help_heading = "How they prove who they are, one of")]
    by_key: Option<PathBuf>,
    /// One gateway, by a key that is made and written to this file, which only the owner may read.
    #[arg(long, value_name = "FILE", help_heading = "How they prove who they are, one of")]
    by_new_key: Option<PathBuf>,
    /// A group, by keys derived from this one in base64; - is standard input.
    #[arg(long, value_name = "FILE", help_heading = "How they prove who they are, one of")]
    by_group_key: Option<PathBuf>,
    /// A group, by keys derived from one that the service makes, and that never leaves it: see `enrolment key`.
    #[arg(long, help_heading = "How they prove who they are, one of")]
    by_new_group_key: bool,
}

fn share(text: &str) -> Result<Share, String> {
    let (tenant, devices) =
        text.split_once('=').ok_or_else(|| "write TENANT=DEVICES, e.g. acme=50".to_owned())?;
    let tenant: TenantId = tenant.parse().map_err(|error: wire::ids::NameError| error.to_string())?;
    let devices = devices.parse().map_err(|_| format!("{devices:?} is no number of devices"))?;
    Ok(Share { tenant, devices })
}

pub(super) async fn execute(EnrolmentArguments { with, command }: EnrolmentArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        EnrolmentCommand::Add { id, environment, shares, by, blocked } => {
            let made = by.by_new_key.clone();
            let new = NewEnrolment { id, proof: proof(by)?, environment, shares, blocked };
            let added = client.add_enrolment(&new).await;
            if let (Err(_), Some(made)) = (&added, &made) {
                // A key that nothing was enrolled by is of no use to anybody.
                let _ = std::fs::remove_file(made);
            }
            answer(json, &added?.enrolment, one)
        }
        EnrolmentCommand::List { part } => {
            let page = client.enrolments(part.wanted()).await?;
            answer(json, &page, |page| {
                list(page, "there is no enrolment: `sluice-provision enrolment add`", enrolments)
            })
        }
        EnrolmentCommand::Show { id } => answer(json, &client.enrolment(&id).await?, one),
        EnrolmentCommand::Set { id, shares, environment } => {
            let shares = (!shares.is_empty()).then_some(shares);
            let change = EnrolmentChange { shares, environment, ..EnrolmentChange::default() };
            if change == EnrolmentChange::default() {
                return Err(Failure::usage("nothing is to change", "name what: see `enrolment set --help`"));
            }
            answer(json, &client.change_enrolment(&id, &change).await?, one)
        }
        EnrolmentCommand::Block { id } => block(&client, json, &id, true).await,
        EnrolmentCommand::Unblock { id } => block(&client, json, &id, false).await,
        EnrolmentCommand::Key { id, gateways, folder } => {
            keys(&client, json, &id, &gateways, folder.as_deref()).await
        }
        EnrolmentCommand::Remove { id } => {
            client.remove_enrolment(&id).await?;
            removed(json, "enrolment", id.as_str())
        }
    }
}

async fn block(client: &Client, json: bool, id: &EnrolmentId, blocked: bool) -> Reply {
    let change = EnrolmentChange { blocked: Some(blocked), ..EnrolmentChange::default() };
    answer(json, &client.change_enrolment(id, &change).await?, one)
}

async fn keys(
    client: &Client,
    json: bool,
    id: &EnrolmentId,
    gateways: &[GatewayId],
    folder: Option<&Path>,
) -> Reply {
    let Some(folder) = folder else {
        let [gateway] = gateways else {
            return Err(Failure::usage(
                "the keys of several gateways go into files",
                "say where to with --folder FOLDER",
            ));
        };
        let key = client.enrolment_key(id, gateway).await?;
        return answer(json, &key, |key| String::from(key.key.clone()) + "\n");
    };
    std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    for gateway in gateways {
        let key = client.enrolment_key(id, gateway).await?;
        let path = folder.join(format!("{gateway}.key"));
        write_key(&path, &key.key)?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(std::process::ExitCode::SUCCESS)
}

fn proof(by: By) -> Result<NewProof, Failure> {
    Ok(match by {
        By { by_certificate: Some(file), .. } => NewProof::Certificate { pem: text(&file)? },
        By { by_fingerprint: Some(sha256), .. } => NewProof::Fingerprint { sha256 },
        By { by_authority: Some(file), .. } => NewProof::Authority { pem: text(&file)? },
        By { by_key: Some(file), .. } => NewProof::Key { key: Some(key(&file)?) },
        By { by_group_key: Some(file), .. } => NewProof::GroupKey { key: Some(key(&file)?) },
        By { by_new_key: Some(file), .. } => {
            let mut key = vec![0; KEY_BYTES];
            SystemRandom::new()
                .fill(&mut key)
                .map_err(|_| Failure::new("machine", "the system gives no random numbers", ""))?;
            let key = Bytes(key);
            write_key(&file, &key)?;
            NewProof::Key { key: Some(key) }
        }
        // One of them is required: this is the last.
        By { .. } => NewProof::GroupKey { key: None },
    })
}

/// A file's text, or that of standard input; what it says is never in an error.
fn text(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_FILE_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::new("unreadable", format!("cannot read {}: {error}", file.display()), ""))?;
    Ok(text)
}

fn key(file: &Path) -> Result<Bytes, Failure> {
    let text = text(file)?;
    let packed: String = text.split_ascii_whitespace().collect();
    Bytes::try_from(packed).map_err(|_| {
        Failure::new(
            "bad_key",
            format!("{} holds no key in base64", file.display()),
            "make one with e.g. `head -c 32 /dev/urandom | base64`, or let one be made: --by-new-key, --by-new-group-key",
        )
    })
}

/// Writes a key in base64 that only the owner may read; nothing that is there is overwritten.
fn write_key(path: &Path, key: &Bytes) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| {
        writeln!(file, "{}", String::from(key.clone()))?;
        file.sync_all()
    })
    .map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        "unwritable",
        format!("cannot write {}: {error}", path.display()),
        "keys are not overwritten",
    )
}

fn enrolments(enrolments: &[EnrolmentView]) -> String {
    const HEADS: [(&str, Set); 6] = [
        ("ENROLMENT", Set::Left),
        ("BY", Set::Left),
        ("ENVIRONMENT", Set::Left),
        ("DEVICES OF EACH GATEWAY", Set::Left),
        ("REGISTERED", Set::Right),
        ("", Set::Left),
    ];
    let rows: Vec<Vec<String>> = enrolments
        .iter()
        .map(|enrolment| {
            vec![
                enrolment.id.to_string(),
                enrolment.proof.clone(),
                enrolment.environment.to_string(),
                shares(&enrolment.shares),
                count(u64::from(enrolment.gateways)),
                if enrolment.blocked { "blocked" } else { "" }.to_owned(),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

fn one(enrolment: &EnrolmentView) -> String {
    let by = match enrolment.proof.as_str() {
        "fingerprint" => "one gateway, by its certificate",
        "authority" => "a group, by the authority of their certificates",
        "key" => "one gateway, by a key of its own",
        "group-key" => "a group, by keys derived from one: see `enrolment key`",
        other => other,
    };
    let mut lines = vec![
        ("state", if enrolment.blocked { "blocked: nobody registers" } else { "open" }.to_owned()),
        ("stands for", by.to_owned()),
    ];
    if let Some(sha256) = &enrolment.sha256 {
        lines.push(("SHA-256", sha256.clone()));
    }
    lines.extend([
        ("environment", enrolment.environment.to_string()),
        ("devices", format!("{}, at each gateway", shares(&enrolment.shares))),
        ("registered", format!("{} gateways", count(u64::from(enrolment.gateways)))),
    ]);
    format!("enrolment {}\n{}", enrolment.id, facts(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_tenant_and_its_devices() {
        let acme = share("acme=50").unwrap();
        assert_eq!((acme.tenant.as_str(), acme.devices), ("acme", 50));
        for wrong in ["acme", "acme=", "=5", "acme=-1", "Acme=5", "acme=many"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g1.key");
        write_key(&path, &Bytes(vec![7; 32])).unwrap();
        assert_eq!(key(&path).unwrap().0, [7; 32]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write_key(&path, &Bytes(vec![8; 32])).is_err());
        std::fs::write(&path, "no key, but a secret").unwrap();
        let told = format!("{:?}", key(&path).unwrap_err());
        assert!(told.contains("base64") && !told.contains("secret\""), "{told}");
    }
}

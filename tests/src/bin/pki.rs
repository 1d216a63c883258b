//! `cargo xtask pki`: a throwaway CA and certificates in a folder, and where they go in the configuration.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use e2e::pki::Pki;

/// Makes a throwaway certificate authority and certificates for trying things. Not for production.
#[derive(Parser)]
struct Options {
    /// Folder to write; created when missing, certificates in it are replaced.
    #[arg(long, default_value = "pki")]
    out: PathBuf,
    /// Gateway ids to make a certificate for (the common name is the id). May be repeated: the first one's is
    /// `gateway.crt`, the others' are `gateway-<id>.crt`.
    #[arg(long, default_values_t = ["plant7-line2".to_owned()])]
    gateway: Vec<String>,
    /// MQTT users to make a client certificate for. May be repeated.
    #[arg(long)]
    device: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let pki = Pki::create(&options.out)?;
    let show = |what: &str, path: &std::path::Path| println!("{what:<34}{}", path.display());
    show("trust (both sides)", &pki.trust());
    show("stamp", &pki.server("stamp")?.certificate);
    show("MQTT listener with TLS", &pki.server("mqtt")?.certificate);
    for (at, id) in options.gateway.iter().enumerate() {
        let identity = if at == 0 { pki.gateway_as("gateway", id)? } else { pki.gateway(id)? };
        show(&format!("gateway {id}"), &identity.certificate);
    }
    for user in &options.device {
        show(&format!("device {user}"), &pki.device(user)?.certificate);
    }
    println!("Keys lie beside them as .key. They are for trying things: the CA's key is in the folder too.");
    Ok(())
}

//! `sluice-gateway check`: everything that can be known about a configuration without running it.
//!
//! First the file itself, then what it names: secrets, certificates, and each plugin, loaded and given its own settings
//! as at a start, with its signature and what it may use. Touches no data folder, opens no port.

mod plugins;

use std::path::Path;
use std::process::ExitCode;

use gateway_config::{Config, Severity, SourceKind};

use crate::provisioning;
use crate::uplink::identity;

pub(super) fn check(path: &Path) -> ExitCode {
    let report = gateway_config::check(path);
    for problem in &report.problems {
        eprintln!("{problem}");
    }
    let mut errors = report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let mut grants = String::new();
    if let Some(config) = &report.config {
        let mut found = Vec::new();
        check_secrets(config, &mut found);
        check_identity(config, &mut found);
        let checked = plugins::check(config);
        found.extend(checked.errors);
        grants = checked.grants;
        for (key, what) in &checked.doubts {
            let problem = gateway_config::problem_at(path, key, what, "");
            eprintln!("{}", gateway_config::Problem { severity: Severity::Warning, ..problem });
        }
        for (key, what) in &found {
            eprintln!("{}", gateway_config::problem_at(path, key, what, ""));
        }
        errors += found.len();
    }
    if errors > 0 {
        print!("{grants}");
        eprintln!("{}: {errors} {}", path.display(), if errors == 1 { "error" } else { "errors" });
        return ExitCode::FAILURE;
    }
    if let Some(config) = &report.config {
        print!("{grants}");
        println!("{}", summary(path, config));
    }
    ExitCode::SUCCESS
}

/// Key and what is wrong with it.
type Found = Vec<(String, String)>;

fn check_secrets(config: &Config, found: &mut Found) {
    for (place, source) in config.sources.iter().enumerate() {
        let mut look = |key: String, secret: Option<&gateway_config::Secret>| {
            if let Some(Err(error)) = secret.map(gateway_config::Secret::read) {
                found.push((key, error.to_string()));
            }
        };
        match &source.kind {
            SourceKind::MqttListener(listener) => {
                for user in listener.users.values() {
                    look(format!("source[{place}].user"), user.password.as_ref());
                }
            }
            SourceKind::Mqtt(broker) => look(format!("source[{place}].password"), broker.password.as_ref()),
        }
    }
}

fn check_identity(config: &Config, found: &mut Found) {
    if let Some(section) = &config.provisioning {
        // What it gives arrives by itself, and is checked when it comes.
        found.extend(provisioning::check(section).map(|error| ("provisioning".to_owned(), error)));
        return;
    }
    let Some(uplink) = &config.uplink else { return };
    let now = (crate::store::wall_clock())() / 1_000_000_000;
    if let Err(error) = identity::load(&uplink.identity, &config.gateway.id, now, wire::message::ALPN) {
        found.push(("uplink.identity".to_owned(), error.to_string()));
    }
}

fn summary(path: &Path, config: &Config) -> String {
    let steps: usize = config.tenants.values().map(|tenant| tenant.steps.len() + tenant.decoders.len()).sum();
    let stamps = match (&config.provisioning, &config.uplink) {
        (Some(provisioning), _) => format!("stamps by {}", provisioning.endpoint),
        (None, uplink) => format!("{} stamps", uplink.as_ref().map_or(0, |uplink| uplink.stamps.len())),
    };
    format!(
        "{}: good: gateway {}, {} sources, {} tenants, {steps} plugins, {stamps}",
        path.display(),
        config.gateway.id,
        config.sources.len(),
        config.tenants.len()
    )
}

//! A data folder that is full or cannot be written.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={mib}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().unwrap();
        assert!(mount.success(), "this test mounts a small tmpfs and needs to be root");
        Self(at.to_owned())
    }

    fn remount(&self, options: &str) {
        let mount =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(mount.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_acknowledgements_and_loses_nothing() {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::create(&Setup { tenants, ..Setup::default() });
    let disk = SmallDisk::mount(&site.gateway.data_dir, 8);
    // What fills the disk is somebody else's.
    site.gateway.start().unwrap();
    let load = Load::start(plan(site.gateway.mqtt, vec![Fleet::new("acme", 20, 1)], 5_000.0)).unwrap();
    wait_until("some are accepted", PATIENCE, || Ok(load.accepted() > 1_000)).unwrap();
    let ballast = site.gateway.data_dir.join("ballast");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&ballast).unwrap());
    wait_until("the store says so", PATIENCE, || Ok(site.gateway.tenant("acme")?.store != "well")).unwrap();
    let stuck = load.accepted();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(load.accepted() - stuck < 2_000, "acknowledged on a full disk: {stuck} to {}", load.accepted());
    std::fs::remove_file(&ballast).unwrap();
    // The stamp was not there: all of it waits on the disk that has room again.
    wait_until("it goes on", PATIENCE, || Ok(load.accepted() > stuck + 3_000)).unwrap();
    site.stamp.start().unwrap();
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    site.gateway.terminate().unwrap();
    drop(disk);
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused_with_its_name() {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::create(&Setup { tenants, ..Setup::default() });
    let disk = SmallDisk::mount(&site.gateway.data_dir, 4);
    disk.remount("ro");
    site.gateway.spawn().unwrap();
    let status = site.gateway.process().unwrap().wait(PATIENCE).unwrap();
    assert!(!status.success());
    let log = site.gateway.log();
    assert!(log.contains(site.gateway.data_dir.to_str().unwrap()), "{log}");
}

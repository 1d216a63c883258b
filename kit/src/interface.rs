//! The plugin interface that this tool was built with: the files of `wit/v1`, and the C bindings made of them.
//!
//! Embedded, so that a project needs nothing but its language's tool chain. A released interface is frozen: a project keeps
//! the files it was begun with, and the gateway goes on running what was built from them.

use std::path::Path;

use anyhow::{Context, Result};
use wit_bindgen_core::wit_parser::{PackageId, Resolve, SourceMap, WorldId};

use crate::project::Kind;

/// The folder of this version below `wit/`.
pub const VERSION: &str = "v1";

/// The files of the interface, by name.
pub const FILES: [(&str, &str); 3] = [
    ("host.wit", include_str!("../../wit/v1/host.wit")),
    ("types.wit", include_str!("../../wit/v1/types.wit")),
    ("worlds.wit", include_str!("../../wit/v1/worlds.wit")),
];

/// The world that a plugin implements.
#[must_use]
pub fn world(kind: Kind, migrates: bool) -> &'static str {
    match (kind, migrates) {
        (Kind::Processor, false) => "processor",
        (Kind::Decoder, false) => "decoder",
        (Kind::Processor, true) => "stateful-processor",
        (Kind::Decoder, true) => "stateful-decoder",
    }
}

/// The interface, parsed.
///
/// # Errors
/// None for the embedded files.
pub fn resolve() -> Result<(Resolve, PackageId)> {
    let mut sources = SourceMap::new();
    for (name, text) in FILES {
        sources.push(Path::new(name), text);
    }
    let group = sources.parse().map_err(|(sources, error)| anyhow::anyhow!(error.render(&sources)))?;
    let mut resolve = Resolve::new();
    let package = resolve.push_group(group)?;
    Ok((resolve, package))
}

/// The C bindings of a world: header, source, and the object that carries the component's type.
///
/// # Errors
/// None for the embedded interface.
pub fn c_bindings(kind: Kind, migrates: bool) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut resolve, package) = resolve()?;
    let world: WorldId = resolve.select_world(&[package], Some(world(kind, migrates)))?;
    let options =
        wit_bindgen_c::Opts { rename_world: Some("plugin".to_owned()), ..wit_bindgen_c::Opts::default() };
    let mut files = wit_bindgen_core::Files::default();
    options.build().generate(&mut resolve, world, &mut files).context("the C bindings cannot be made")?;
    Ok(files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_interface_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/v1");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, FILES.map(|(name, _)| name));
    }

    #[test]
    fn each_world_has_c_bindings_with_a_type_object() {
        for (kind, migrates) in
            [(Kind::Processor, false), (Kind::Decoder, false), (Kind::Processor, true), (Kind::Decoder, true)]
        {
            let names: Vec<String> =
                c_bindings(kind, migrates).unwrap().into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["plugin.c", "plugin.h", "plugin_component_type.o"]);
        }
    }
}

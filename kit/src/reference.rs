//! The reference of the plugin interface as Markdown, made of the WIT that this tool was built with:
//! `sluice-plugin interface`, and `docs/plugin-interface.md`, which a test compares with it.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use wit_bindgen_core::wit_parser::{Docs, Function, Resolve, Type, TypeDef, TypeDefKind, TypeId, WorldItem};

use crate::interface;

const HEAD: &str = "# The plugin interface\n\nMade of `wit/v1` by `sluice-plugin interface`; not edited by hand. \
                    [plugins.md](plugins.md) is where to begin.\n";

/// The command.
///
/// # Errors
/// None for the embedded interface.
pub fn command() -> Result<ExitCode> {
    print!("{}", markdown()?);
    Ok(ExitCode::SUCCESS)
}

/// The whole reference.
///
/// # Errors
/// None for the embedded interface.
pub fn markdown() -> Result<String> {
    let (resolve, package) = interface::resolve()?;
    let package = resolve.packages.get(package).context("the interface has no package")?;
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\nPackage `{}`.\n\n## Worlds\n", package.name);
    for (name, id) in &package.worlds {
        let Some(world) = resolve.worlds.get(*id) else { continue };
        let names = |items: Vec<&WorldItem>| {
            let names = items.into_iter().filter_map(|item| match item {
                WorldItem::Interface { id, .. } => resolve.interfaces.get(*id)?.name.clone(),
                _ => None,
            });
            // `types` comes in by itself with those that use it.
            names
                .filter(|name| name != "types")
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let _ = writeln!(text, "- **`{name}`**: {}", line(&world.docs));
        let _ = writeln!(
            text,
            "  Exports {}; may import {}.",
            names(world.exports.values().collect()),
            names(world.imports.values().collect())
        );
    }
    for (name, id) in &package.interfaces {
        let Some(of) = resolve.interfaces.get(*id) else { continue };
        let _ = writeln!(text, "\n## {name}\n\n{}", paragraph(&of.docs));
        for function in of.functions.values() {
            let _ =
                writeln!(text, "\n### `{}`\n\n{}", signature(&resolve, function), paragraph(&function.docs));
        }
        for (name, id) in &of.types {
            if let Some(definition) = resolve.types.get(*id)
                && let Some(described) = definition_text(&resolve, name, definition)
            {
                text.push_str(&described);
            }
        }
    }
    Ok(text)
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let parameters: Vec<String> = function
        .params
        .iter()
        .map(|parameter| format!("{}: {}", parameter.name, type_name(resolve, &parameter.ty)))
        .collect();
    let result =
        function.result.as_ref().map_or_else(String::new, |of| format!(" -> {}", type_name(resolve, of)));
    format!("{}: func({}){result}", function.name, parameters.join(", "))
}

/// A definition; `None` for one that another interface lends.
fn definition_text(resolve: &Resolve, name: &str, definition: &TypeDef) -> Option<String> {
    let rows: Vec<(String, &Docs)> = match &definition.kind {
        TypeDefKind::Record(record) => {
            let field = |field: &str, of: &Type| format!("`{field}`: `{}`", type_name(resolve, of));
            record.fields.iter().map(|of| (field(&of.name, &of.ty), &of.docs)).collect()
        }
        TypeDefKind::Variant(variant) => {
            let case = |case: &str, of: Option<&Type>| {
                of.map_or_else(|| format!("`{case}`"), |of| format!("`{case}({})`", type_name(resolve, of)))
            };
            variant.cases.iter().map(|of| (case(&of.name, of.ty.as_ref()), &of.docs)).collect()
        }
        TypeDefKind::Enum(of) => {
            of.cases.iter().map(|case| (format!("`{}`", case.name), &case.docs)).collect()
        }
        _ => return None,
    };
    let mut text =
        format!("\n### {} `{name}`\n\n{}\n\n", definition.kind.as_str(), paragraph(&definition.docs));
    for (what, docs) in rows {
        let _ = writeln!(text, "- {what}: {}", line(docs));
    }
    Some(text)
}

fn type_name(resolve: &Resolve, of: &Type) -> String {
    match of {
        Type::Bool => "bool".to_owned(),
        Type::U8 => "u8".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::U64 => "u64".to_owned(),
        Type::S8 => "s8".to_owned(),
        Type::S16 => "s16".to_owned(),
        Type::S32 => "s32".to_owned(),
        Type::S64 => "s64".to_owned(),
        Type::F32 => "f32".to_owned(),
        Type::F64 => "f64".to_owned(),
        Type::Char => "char".to_owned(),
        Type::String => "string".to_owned(),
        Type::ErrorContext => "error-context".to_owned(),
        Type::Id(id) => named(resolve, *id),
    }
}

fn named(resolve: &Resolve, id: TypeId) -> String {
    let Some(definition) = resolve.types.get(id) else { return String::new() };
    if let Some(name) = &definition.name {
        return name.clone();
    }
    let or_none = |of: &Option<Type>| of.as_ref().map_or_else(|| "_".to_owned(), |of| type_name(resolve, of));
    match &definition.kind {
        TypeDefKind::List(of) => format!("list<{}>", type_name(resolve, of)),
        TypeDefKind::Option(of) => format!("option<{}>", type_name(resolve, of)),
        TypeDefKind::Result(of) => format!("result<{}, {}>", or_none(&of.ok), or_none(&of.err)),
        other => other.as_str().to_owned(),
    }
}

fn paragraph(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().trim().to_owned()
}

/// As one line.
fn line(docs: &Docs) -> String {
    paragraph(docs).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plugin-interface.md");
        let checked_in = std::fs::read_to_string(path).unwrap();
        assert!(
            checked_in == markdown().unwrap(),
            "run: cargo run --release -p kit -- interface > docs/plugin-interface.md"
        );
    }

    #[test]
    fn every_function_and_type_is_described() {
        let text = markdown().unwrap();
        for part in [
            "### `process: func(frames: list<frame>) -> result<output, fault>`",
            "### record `frame`",
            "- `up`: Connected.",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains(": \n") && !text.contains("\n\n\n\n"), "something has no documentation");
    }
}

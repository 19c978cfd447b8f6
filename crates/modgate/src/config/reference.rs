//! `docs/configuration.md`, written from the settings table.

use std::fmt::Write;

use super::{
    setting::{Fallback, Kind, Setting},
    table::{SECTIONS, SETTINGS},
};

/// What stands before the settings.
const INTRODUCTION: &str = "# Configuration

<!-- Generated from the settings table. To change it: MODGATE_WRITE_DOCS=1 cargo test -p modgate --test config -->

modgate starts without any configuration. What is set comes from, in rising precedence:

1. the defaults below;
2. a TOML file, named by `--config FILE` or the environment variable `MODGATE_CONFIG`;
3. environment variables: `MODGATE_` and the name in upper case, `.` written as `_`. An empty one counts as not set. Lists may be
   written with commas; tables are written as a TOML value, such as `MODGATE_ROUTE='[{ match = [\"x.example\"], chain = \"direct\" }]'`;
4. flags of the command.

A setting is taken whole from the highest of them: a list or a table in the environment replaces the one of the file.
Unknown names are mistakes, in the file and in the environment (but for the variables Kubernetes sets for a service of that
name), and all mistakes are reported at once. `modgate check` prints what is in effect and where each value comes from, and never
prints a secret.

The file, and the files it names, are read again when they change and on SIGHUP. A new configuration with a mistake is refused as
a whole and the old one stays; it is tried again when one of its files changes or appears. A setting marked *restart* is taken over only by a new process.

Durations are whole numbers with a unit: `\"200ms\"`, `\"3s\"`, `\"2m\"`, `\"1h30m\"`, `\"7d\"`. Sizes are powers of 1024: `\"512B\"`,
`\"64KiB\"`, `\"24MiB\"`, `\"1GiB\"`. A relative path starts at the folder of the process.
";

/// The reference of all settings as Markdown.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in SECTIONS {
        let title = match SETTINGS.iter().find(|setting| setting.name == section.name) {
            Some(Setting {
                kind: Kind::Items(_),
                ..
            }) => format!("`[[{}]]`", section.name),
            Some(_) => format!("`[{}.\"URL\"]`", section.name),
            None if section.name.is_empty() => "Top of the file".to_owned(),
            None => format!("`[{}]`", section.name),
        };
        add(&mut text, format_args!("\n## {title}\n\n{}\n", section.doc));
        for setting in SETTINGS {
            let (of, key) = setting.section_and_key();
            if setting.name == section.name {
                let env = setting.env_name();
                let example = setting.example;
                add(
                    &mut text,
                    format_args!("\nIn the environment: `{env}='{example}'`\n"),
                );
                for item in setting.items().unwrap_or_default() {
                    let name = format!("{}.{}", section.name, item.name);
                    add_setting(&mut text, item, &name, item.name);
                }
            } else if of == section.name && setting.items().is_none() {
                add_setting(&mut text, setting, setting.name, key);
                let env = setting.env_name();
                add(&mut text, format_args!("- environment: `{env}`\n"));
            }
        }
    }
    text
}

fn add_setting(text: &mut String, setting: &Setting, name: &str, key: &str) {
    add(text, format_args!("\n### `{name}`\n\n{}\n\n", setting.doc));
    add(text, format_args!("- type: {}\n", setting.kind.words()));
    if let Some(range) = setting.kind.range() {
        add(text, format_args!("- range: {range}\n"));
    }
    match setting.default {
        Fallback::Value(value) => add(text, format_args!("- default: `{value}`\n")),
        Fallback::Unset => add(text, format_args!("- default: not set\n")),
        Fallback::Found(words) => add(text, format_args!("- default: {words}\n")),
        Fallback::Required => add(text, format_args!("- must be set\n")),
    }
    add(
        text,
        format_args!("- example: `{key} = {}`\n", setting.example),
    );
    if setting.restart {
        add(text, format_args!("- *restart*\n"));
    }
}

fn add(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a string takes every text");
}

//! The manual of the API, `docs/api.md`, held against the contract it is made from: what is in no comment is not documented, and what
//! the page says otherwise than the `.proto` files do is not true.
//!
//! After a change that is meant: `BOOTJACK_BLESS=1 cargo test -p bootjack-api --test manual`, and look at the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bootjack_api::v1::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};

const PACKAGE: &str = "bootjack.v1";
const HEAD: &str = "# The API: `bootjack.v1`

Made from the comments of [`api/proto/bootjack/v1`](../api/proto/bootjack/v1); do not edit. A client in any language is made from those files,
or learns them from a running service by gRPC reflection.
";

// Field numbers of descriptor.proto, of which the paths of comments are made.
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const METHODS: i32 = 2;
const FIELDS: i32 = 2;
const NESTED: i32 = 3;
const ENUMS_INSIDE: i32 = 4;
const VALUES: i32 = 2;

/// The files of the package, each with its comments by path.
struct Contract {
    files: Vec<(FileDescriptorProto, BTreeMap<Vec<i32>, String>)>,
}

impl Contract {
    fn read() -> Self {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
        let ours = set.file.into_iter().filter(|f| f.package() == PACKAGE);
        let files: Vec<_> = ours
            .map(|file| {
                let info = file.source_code_info.iter().flat_map(|info| &info.location);
                let comments = info
                    .filter(|location| location.leading_comments.is_some())
                    .map(|location| (location.path.clone(), text(location.leading_comments())))
                    .collect();
                (file, comments)
            })
            .collect();
        assert!(files.len() > 5, "the package was found");
        Self { files }
    }
}

/// A comment without the blank that each of its lines begins with.
fn text(comment: &str) -> String {
    let lines = comment
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[test]
fn every_service_call_message_field_enum_and_value_is_documented() {
    let mut silent = Vec::new();
    for (file, comments) in &Contract::read().files {
        walk(file, &mut |path, name| {
            if comments.get(path).is_none_or(String::is_empty) {
                silent.push(format!("{}: {name}", file.name()));
            }
        });
    }
    assert!(
        silent.is_empty(),
        "undocumented:\n  {}",
        silent.join("\n  ")
    );
}

#[test]
fn the_manual_says_what_the_contract_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let wanted = manual(&Contract::read());
    if std::env::var_os("BOOTJACK_BLESS").is_some() {
        std::fs::write(&page, &wanted).expect("written");
    }
    let found = std::fs::read_to_string(&page).unwrap_or_default();
    let differs = (found.lines().zip(wanted.lines()).enumerate())
        .find(|(_, (found, wanted))| found != wanted)
        .map_or(
            found.lines().count().min(wanted.lines().count()),
            |(at, _)| at,
        );
    assert!(
        found == wanted,
        "docs/api.md is not what the contract says, from line {}; see the head of this file",
        differs + 1
    );
}

/// Names everything that wants a comment, with the path of its comment.
fn walk(file: &FileDescriptorProto, tell: &mut dyn FnMut(&[i32], &str)) {
    for (at, service) in (0..).zip(&file.service) {
        tell(&[SERVICES, at], service.name());
        for (n, method) in (0..).zip(&service.method) {
            tell(&[SERVICES, at, METHODS, n], method.name());
        }
    }
    for (at, message) in (0..).zip(&file.message_type) {
        walk_message(&[MESSAGES, at], message, tell);
    }
    for (at, named) in (0..).zip(&file.enum_type) {
        walk_enum(&[ENUMS, at], named, tell);
    }
}

fn walk_message(path: &[i32], message: &DescriptorProto, tell: &mut dyn FnMut(&[i32], &str)) {
    tell(path, message.name());
    for (n, field) in (0..).zip(&message.field) {
        let name = format!("{}.{}", message.name(), field.name());
        tell(&[path, &[FIELDS, n]].concat(), &name);
    }
    for (n, named) in (0..).zip(&message.enum_type) {
        walk_enum(&[path, &[ENUMS_INSIDE, n]].concat(), named, tell);
    }
    for (n, nested) in (0..).zip(&message.nested_type) {
        if !is_map_entry(nested) {
            walk_message(&[path, &[NESTED, n]].concat(), nested, tell);
        }
    }
}

fn walk_enum(path: &[i32], named: &EnumDescriptorProto, tell: &mut dyn FnMut(&[i32], &str)) {
    tell(path, named.name());
    for (n, value) in (0..).zip(&named.value) {
        tell(&[path, &[VALUES, n]].concat(), value.name());
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    (message.options.as_ref()).is_some_and(prost_types::MessageOptions::map_entry)
}

// The page.

fn manual(contract: &Contract) -> String {
    let mut page = HEAD.to_owned();
    page.push('\n');
    for (file, _) in &contract.files {
        for service in &file.service {
            let name = service.name();
            let link = name.to_lowercase();
            writeln!(page, "- [{name}](#{link})").expect("a string takes it");
        }
    }
    for (file, comments) in &contract.files {
        for (at, service) in (0..).zip(&file.service) {
            write_service(&mut page, &[SERVICES, at], service, comments);
        }
        for (at, message) in (0..).zip(&file.message_type) {
            write_message(&mut page, &[MESSAGES, at], message, comments);
        }
        for (at, named) in (0..).zip(&file.enum_type) {
            write_enum(&mut page, &[ENUMS, at], named.name(), named, comments);
        }
    }
    page
}

type Comments = BTreeMap<Vec<i32>, String>;

fn comment<'a>(comments: &'a Comments, path: &[i32]) -> &'a str {
    comments.get(path).map_or("", String::as_str)
}

fn write_service(
    page: &mut String,
    path: &[i32],
    service: &ServiceDescriptorProto,
    comments: &Comments,
) {
    let name = service.name();
    let _ = write!(page, "\n## {name}\n\n{}\n", comment(comments, path));
    for (n, method) in (0..).zip(&service.method) {
        let stream = |is_stream: bool| if is_stream { "stream of " } else { "" };
        let _ = write!(
            page,
            "\n### {name}.{}\n\n{}{} → {}{}\n\n{}\n",
            method.name(),
            stream(method.client_streaming()),
            type_name(method.input_type()),
            stream(method.server_streaming()),
            type_name(method.output_type()),
            comment(comments, &[path, &[METHODS, n]].concat()),
        );
    }
}

fn write_message(page: &mut String, path: &[i32], message: &DescriptorProto, comments: &Comments) {
    let name = message.name();
    let _ = write!(page, "\n### {name}\n\n{}\n", comment(comments, path));
    if !message.field.is_empty() {
        page.push('\n');
    }
    for (n, field) in (0..).zip(&message.field) {
        let said = comment(comments, &[path, &[FIELDS, n]].concat());
        let _ = writeln!(
            page,
            "- `{}` = {}, {}: {}",
            field.name(),
            field.number(),
            kind_of(field, message),
            in_a_list(said),
        );
    }
    for (n, named) in (0..).zip(&message.enum_type) {
        let title = format!("{name}.{}", named.name());
        write_enum(
            page,
            &[path, &[ENUMS_INSIDE, n]].concat(),
            &title,
            named,
            comments,
        );
    }
    for (n, nested) in (0..).zip(&message.nested_type) {
        if !is_map_entry(nested) {
            write_message(page, &[path, &[NESTED, n]].concat(), nested, comments);
        }
    }
}

fn write_enum(
    page: &mut String,
    path: &[i32],
    title: &str,
    named: &EnumDescriptorProto,
    comments: &Comments,
) {
    let _ = write!(page, "\n### {title}\n\n{}\n\n", comment(comments, path));
    for (n, value) in (0..).zip(&named.value) {
        let said = comment(comments, &[path, &[VALUES, n]].concat());
        let (name, number) = (value.name(), value.number());
        let _ = writeln!(page, "- `{name}` = {number}: {}", in_a_list(said));
    }
}

/// The lines after the first one belong to the item too.
fn in_a_list(said: &str) -> String {
    said.replace('\n', "\n  ")
}

fn kind_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let entry = (message.nested_type.iter())
        .filter(|nested| is_map_entry(nested))
        .find(|entry| field.type_name().ends_with(&format!(".{}", entry.name())));
    if let Some(entry) = entry {
        let value = entry.field.iter().find(|f| f.name() == "value");
        let value = value.map(one_of_it).unwrap_or_default();
        return format!("map from string to {value}");
    }
    let one = one_of_it(field);
    match field.label() {
        Label::Repeated => format!("repeated {one}"),
        _ if field.proto3_optional() => format!("optional {one}"),
        _ => one,
    }
}

fn one_of_it(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => type_name(field.type_name()),
        plain => plain
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}

/// `Reservation`, with a link to it, or the name of somebody else's type.
fn type_name(full: &str) -> String {
    let full = full.trim_start_matches('.');
    match full.strip_prefix(&format!("{PACKAGE}.")) {
        Some(own) => format!("[{own}](#{})", own.to_lowercase().replace('.', "")),
        None => format!("`{full}`"),
    }
}

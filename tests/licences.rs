//! Every dependency has a licence that `deny.toml` allows and comes from the registry.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The texts of a list in `deny.toml`, which is written with one entry a line.
fn allowed() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, list) = text.split_once("allow = [").expect("deny.toml has a list of licences");
    let (list, _) = list.split_once(']').expect("the list ends");
    list.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Whether an SPDX expression is satisfied by the allowed licences. `OR` needs one side, `AND`
/// both; the old `/` means `OR`.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (verdict, rest) = any_of(&words, allowed);
    assert!(rest.is_empty(), "cannot read the licence {expression:?}");
    verdict
}

fn any_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut verdict, mut rest) = all_of(words, allowed);
    while rest.first() == Some(&"OR") {
        let (side, tail) = all_of(&rest[1..], allowed);
        (verdict, rest) = (verdict || side, tail);
    }
    (verdict, rest)
}

fn all_of<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    let (mut verdict, mut rest) = one(words, allowed);
    while rest.first() == Some(&"AND") {
        let (side, tail) = one(&rest[1..], allowed);
        (verdict, rest) = (verdict && side, tail);
    }
    (verdict, rest)
}

fn one<'a>(words: &'a [&'a str], allowed: &BTreeSet<String>) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (verdict, rest) = any_of(inner, allowed);
            assert_eq!(rest.first(), Some(&")"), "a licence lacks its closing bracket");
            (verdict, &rest[1..])
        }
        [name, "WITH", exception, rest @ ..] => {
            (allowed.contains(&format!("{name} WITH {exception}")), rest)
        }
        [name, rest @ ..] => (allowed.contains(*name), rest),
        [] => panic!("a licence ends too early"),
    }
}

#[test]
fn every_dependency_is_licensed_as_allowed() {
    let allowed = allowed();
    assert!(allowed.contains("Apache-2.0"), "{allowed:?}");
    let packages = packages();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| {
            let licence = package["license"].as_str();
            !licence.is_some_and(|licence| permits(licence, &allowed))
        })
        .map(|package| {
            format!("{} {}: {}", package["name"], package["version"], package["license"])
        })
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
    println!("{} packages, every licence allowed", packages.len());
}

#[test]
fn every_dependency_comes_from_the_registry() {
    for package in packages() {
        let source = package["source"].as_str();
        let own = package["name"] == env!("CARGO_PKG_NAME");
        let registry = source.is_some_and(|source| source.starts_with("registry+"));
        assert!(own || registry, "{} comes from {source:?}", package["name"]);
    }
}

#[test]
fn no_second_tls_stack_is_linked() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!matches!(name, "openssl-sys" | "native-tls" | "aws-lc-rs"), "{name}");
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "A WITH X".to_owned()]);
    for (expression, verdict) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(GPL-3.0 OR MIT) AND MIT", true),
        ("A WITH X", true),
        ("A", false),
    ] {
        assert_eq!(permits(expression, &allowed), verdict, "{expression}");
    }
}

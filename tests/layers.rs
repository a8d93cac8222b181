//! The house keeps its layers: the table in `src/lib.rs` is read, and every `use crate::` line of
//! the sources must point to a line above the module's own.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// Module name to its line in the table.
fn ranks() -> HashMap<String, usize> {
    let page = fs::read_to_string(Path::new(SOURCES).join("lib.rs")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("//! | [`") || line.starts_with("//! | `"));
    let names = |row: &str| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.enumerate().flat_map(|(rank, row)| names(row).into_iter().map(move |name| (name, rank))).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// (file, its module, its text without unit tests).
fn modules() -> Vec<(PathBuf, String, String)> {
    let mut files = Vec::new();
    sources(Path::new(SOURCES), &mut files);
    let module = |file: &PathBuf| {
        let inside = file.strip_prefix(SOURCES).unwrap().with_extension("");
        inside.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
    };
    let text = |file: &PathBuf| fs::read_to_string(file).unwrap().split("mod tests {").next().unwrap().to_owned();
    files.iter().map(|file| (file.clone(), module(file), text(file))).filter(|(_, module, _)| module != "lib").collect()
}

#[test]
fn modules_use_only_lines_above_their_own() {
    let ranks = ranks();
    for (file, module, text) in modules() {
        let own = *ranks.get(&module).unwrap_or_else(|| panic!("{module} has no line in the table of lib.rs"));
        for used in text.split("crate::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()) {
            let Some(&rank) = ranks.get(used) else { continue };
            assert!(used == module || rank < own, "{} uses {used}, which is not above {module}", file.display());
        }
    }
    assert_eq!(ranks.len(), 19);
}

#[test]
fn each_power_has_one_place() {
    let allowed = |word: &str| -> Vec<&str> {
        match word {
            "unsafe {" => vec!["kernel/", "store/bytes.rs"],
            "is_x86_feature_detected!" => vec!["kernel/mod.rs"],
            "memmap2::" | "libc::" => vec!["store/bytes.rs"],
            "sync_all" | "fs::rename" => vec!["format/write.rs"],
            "rayon::" | "thread::spawn" => vec!["pool.rs"],
            "env::var" => vec!["kernel/mod.rs", "pool.rs"],
            _ => vec!["python/"],
        }
    };
    for word in [
        "unsafe {",
        "is_x86_feature_detected!",
        "memmap2::",
        "libc::",
        "sync_all",
        "fs::rename",
        "rayon::",
        "thread::spawn",
        "env::var",
        "pyo3::",
    ] {
        let mut seen = 0;
        for (file, _, text) in modules() {
            if text.contains(word) {
                let inside = file.strip_prefix(SOURCES).unwrap().to_str().unwrap();
                assert!(allowed(word).iter().any(|place| inside.starts_with(place)), "{word} in {inside}");
                seen += 1;
            }
        }
        assert!(seen > 0 || word == "thread::spawn", "{word} is nowhere: this test looks for the wrong thing");
    }
}

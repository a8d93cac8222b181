//! The house keeps its layers: the table in `src/lib.rs` is read, and every `use crate::` line of
//! the sources must point to a line above the module's own.

use std::collections::{BTreeSet, HashMap, HashSet};
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
    assert_eq!(ranks.len(), 23);
}

#[test]
fn each_power_has_one_place() {
    let allowed = |word: &str| -> Vec<&str> {
        match word {
            "unsafe {" => vec!["kernel/", "store/bytes.rs", "reserve.rs"],
            "is_x86_feature_detected!" => vec!["kernel/mod.rs"],
            "memmap2::" => vec!["store/bytes.rs"],
            // What the standard library lacks: questions about memory, and giving a name to a file without one.
            "libc::" => vec!["store/bytes.rs"],
            "sync_all" | "fs::rename" | "file.try_lock" => vec!["format/replace.rs"],
            "sync_data" => vec!["format/growing.rs"],
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
        "sync_data",
        "fs::rename",
        "file.try_lock",
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

/// `use` paths and inline paths of a source text, braces expanded: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let starts = ["crate::", "super::"].into_iter().flat_map(|start| text.match_indices(start).map(|(at, _)| at));
    for at in starts.filter(|&at| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')) {
        expand(String::new(), &text[at..], &mut found);
    }
    found
}

/// Reads one path from the start of `text`, appends it to `found` behind `prefix`, and returns what follows it.
fn expand<'a>(prefix: String, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let (path, mut rest) = (format!("{prefix}{}", &text[..end]), &text[end..]);
    if !path.ends_with("::") || !rest.starts_with('{') {
        found.push(path);
        return rest;
    }
    while rest.starts_with(['{', ',']) {
        rest = expand(path.clone(), rest[1..].trim_start(), found).trim_start();
    }
    rest.strip_prefix('}').unwrap_or(rest)
}

/// The file that a path of `file` leads to, both without `.rs`; none for what stands in the `mod.rs` of a folder, which
/// is the folder's face: it offers what its files define.
fn target(file: &str, path: &str, files: &HashSet<String>) -> Option<String> {
    let mut at: Vec<&str> = file.split('/').collect();
    at.retain(|&part| part != "mod");
    let mut parts = path.split("::").peekable();
    while let Some(part) = parts.next_if(|&part| part == "crate" || part == "super") {
        if part == "crate" { at.clear() } else { at.truncate(at.len().saturating_sub(1)) }
    }
    let mut reached = None;
    for part in parts {
        at.push(part);
        reached = files.get(&at.join("/")).cloned().or(reached);
    }
    reached.filter(|reached| reached != file)
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let name = |file: &Path| file.strip_prefix(SOURCES).unwrap().with_extension("").to_str().unwrap().replace('\\', "/");
    let texts: HashMap<String, String> = modules().into_iter().map(|(file, _, text)| (name(&file), text)).collect();
    let files: HashSet<String> = texts.keys().cloned().collect();
    let code = |text: &str| text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let uses = |file: &String| paths(&code(&texts[file])).iter().filter_map(|path| target(file, path, &files)).collect::<HashSet<_>>();
    let mut open: HashMap<String, HashSet<String>> =
        files.iter().filter(|file| !file.ends_with("/mod")).map(|file| (file.clone(), uses(file))).collect();
    let arrows: usize = open.values().map(HashSet::len).sum();
    assert!(arrows > files.len(), "{arrows} uses among {} files: this test looks for the wrong thing", files.len());
    // Files that use no open file, or that no open file uses, are in no circle: what stays open is.
    loop {
        let used: HashSet<String> = open.values().flatten().cloned().collect();
        let before = open.len();
        let closed: Vec<String> = open
            .iter()
            .filter(|(file, uses)| !used.contains(*file) || uses.iter().all(|used| !open.contains_key(used)))
            .map(|(file, _)| file.clone())
            .collect();
        closed.iter().for_each(|file| _ = open.remove(file));
        if open.len() == before {
            break;
        }
    }
    let circle: BTreeSet<&String> = open.keys().collect();
    assert!(circle.is_empty(), "these files use each other in a circle: {circle:?}");
}

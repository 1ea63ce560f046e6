//! Which programs of this machine have a device open, by procfs.

use std::fs;
use std::path::{Path, PathBuf};

use super::Roots;

/// Each open file below `/dev` that is wanted, by its path there, with the program that has it open:
/// `minicom (process 812)`. This program is left out; only root sees the programs of others.
pub(super) fn with_open(roots: &Roots, wanted: impl Fn(&Path) -> bool) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let own = std::process::id().to_string();
    for process in fs::read_dir(&roots.proc).into_iter().flatten().flatten() {
        let pid = process.file_name();
        let Some(pid) = pid.to_str().filter(|pid| is_number(pid) && **pid != own) else {
            continue;
        };
        let files = fs::read_dir(process.path().join("fd"));
        for file in files.into_iter().flatten().flatten() {
            // Sockets, pipes and files elsewhere make up nearly all of them.
            let Ok(target) = fs::read_link(file.path()) else {
                continue;
            };
            let Ok(node) = target.strip_prefix(&roots.dev) else {
                continue;
            };
            if wanted(node) {
                let comm = fs::read(process.path().join("comm")).unwrap_or_default();
                let name = String::from_utf8_lossy(&comm);
                found.push((
                    node.to_owned(),
                    format!("{} (process {pid})", name.trim_end()),
                ));
            }
        }
    }
    found
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

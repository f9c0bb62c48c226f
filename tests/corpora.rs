//! The fuzzer's corpora once more, as a plain test: what was found once must not come back.
#![cfg(target_os = "linux")]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets use it as a crate")]
mod checks;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[test]
fn everything_in_the_corpora_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let (mut failed, mut bytes_in_all) = (Vec::new(), 0);
    for (target, check) in checks::TARGETS {
        let files = fs::read_dir(root.join(target)).expect("each target has a corpus");
        let mut ran = 0;
        for file in files {
            let path = file.expect("an entry of the directory").path();
            let bytes = fs::read(&path).expect("a file of a corpus");
            bytes_in_all += bytes.len();
            ran += 1;
            if catch_unwind(|| check(&bytes)).is_err() {
                failed.push(path.display().to_string());
            }
        }
        println!("{target}: {ran} inputs");
        assert!(ran > 0, "an empty corpus of {target} would prove nothing");
    }
    assert_eq!(failed, Vec::<String>::new());
    assert!(bytes_in_all < 1 << 20, "{bytes_in_all} bytes of corpora");
}

#[test]
fn every_corpus_has_a_target_and_every_target_is_built() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(dir)).expect("a directory of fuzz/");
        let name = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
        let mut names: Vec<_> = entries
            .filter_map(|entry| name(&entry.ok()?.path()))
            .collect();
        names.sort();
        names
    };
    let mut known: Vec<_> = checks::TARGETS.map(|(name, _)| name.to_owned()).to_vec();
    known.sort();
    assert_eq!(names("corpus"), known);
    assert_eq!(names("fuzz_targets"), known);
}

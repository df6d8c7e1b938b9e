//! The `file_integrity` collector over real files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nightbell::collectors::{Collector, Memory};
use nightbell::model::Batch;

use crate::collecting::{collect, try_build, try_build_with, value};

fn of(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, &format!("file_integrity_{name}"), &[])
}

/// Changed, new and gone files.
fn differences(batch: &Batch) -> [Option<f64>; 3] {
    ["changed_files", "new_files", "removed_files"].map(|name| of(batch, name))
}

fn start(state: &Path, yaml: &str) -> Box<dyn Collector> {
    let memory = Memory::of(state, "file_integrity", "file_integrity", "t");
    try_build_with("file_integrity", yaml, memory).unwrap_or_else(|errors| panic!("{errors}"))
}

async fn look(collector: &mut Box<dyn Collector>) -> Batch {
    std::thread::sleep(Duration::from_millis(5));
    let (batch, result) = collect("file_integrity", collector).await;
    result.expect("read");
    batch
}

#[tokio::test]
async fn what_changes_comes_and_goes_is_counted_until_it_is_accepted_also_across_restarts() {
    let (folder, state) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let file = |name: &str| folder.path().join(name);
    fs::create_dir(file("sub")).expect("made");
    for name in ["one.py", "two.py", "sub/three.py", "notes.txt"] {
        fs::write(file(name), name).expect("written");
    }
    let announced = state.path().join("deployed");
    let yaml = format!(
        "path: {}\nfiles: '*.py'\nevery: 1ms\naccept_file: {}\n",
        folder.path().display(),
        announced.display()
    );
    let mut collector = start(state.path(), &yaml);
    let batch = look(&mut collector).await;
    assert_eq!(
        (of(&batch, "files"), differences(&batch)),
        (Some(3.0), [Some(0.0); 3])
    );
    assert_eq!((of(&batch, "saved"), batch.notes.len()), (Some(1.0), 0));
    let read = of(&batch, "read_bytes_total");
    assert_eq!(
        of(&look(&mut collector).await, "read_bytes_total"),
        read,
        "what is known is not read again"
    );
    // The same contents are no change, whenever they were written; others are, even if the times
    // are set back.
    fs::write(file("one.py"), "one.py").expect("written");
    let before = file("two.py")
        .metadata()
        .expect("there")
        .modified()
        .expect("known");
    fs::write(file("two.py"), "evil!!").expect("written");
    fs::File::options()
        .write(true)
        .open(file("two.py"))
        .and_then(|file| file.set_modified(before))
        .expect("set");
    fs::write(file("new.py"), "new").expect("written");
    fs::remove_file(file("sub/three.py")).expect("removed");
    fs::write(file("notes.txt"), "not watched").expect("written");
    let batch = look(&mut collector).await;
    assert_eq!(differences(&batch), [Some(1.0); 3]);
    assert_eq!(
        batch.notes[0].lines,
        ["changed: two.py", "new: new.py", "gone: sub/three.py"]
    );
    // A restart compares with the same state.
    let mut collector = start(state.path(), &yaml);
    assert_eq!(differences(&look(&mut collector).await), [Some(1.0); 3]);
    // A deployment says that it was here.
    fs::write(&announced, "").expect("written");
    assert_eq!(differences(&look(&mut collector).await), [Some(0.0); 3]);
    fs::write(file("one.py"), "two").expect("written");
    assert_eq!(
        differences(&look(&mut collector).await),
        [Some(1.0), Some(0.0), Some(0.0)]
    );
}

#[tokio::test]
async fn a_folder_that_is_away_is_unreadable_and_nothing_counts_as_gone() {
    let (folder, state) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let inner = folder.path().join("app");
    fs::create_dir(&inner).expect("made");
    fs::write(inner.join("one"), "x").expect("written");
    let mut collector = start(
        state.path(),
        &format!("path: {}\nevery: 1ms\n", inner.display()),
    );
    look(&mut collector).await;
    fs::rename(&inner, folder.path().join("aside")).expect("moved");
    std::thread::sleep(Duration::from_millis(5));
    let (batch, result) = collect("file_integrity", &mut collector).await;
    assert!(result.expect_err("away").reason.contains("No such file"));
    assert_eq!(
        (of(&batch, "readable"), differences(&batch)),
        (Some(0.0), [None; 3])
    );
    fs::rename(folder.path().join("aside"), &inner).expect("moved back");
    assert_eq!(differences(&look(&mut collector).await), [Some(0.0); 3]);
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    for (yaml, wanted) in [
        ("{}", "path"),
        ("path: app", "is not absolute"),
        ("path: /srv\nfiles: '[x'", "is not a pattern of file names"),
    ] {
        let errors = try_build("file_integrity", yaml)
            .err()
            .unwrap_or_else(|| panic!("{yaml}"))
            .to_string();
        assert!(errors.contains(wanted), "{yaml}: {errors}");
    }
}

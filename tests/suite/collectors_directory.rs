//! The `directory` collector over real folders.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use nightbell::model::Batch;

use crate::collecting::{build, collect, try_build, value};
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

fn of(batch: &Batch, name: &str) -> Option<f64> {
    value(batch, &format!("directory_{name}"), &[])
}

/// Sizes, numbers and ages; a link and what it leads to do not count, a file with two names counts
/// once.
#[tokio::test]
async fn a_folder_is_measured_without_following_links() {
    let (folder, elsewhere) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    fs::write(elsewhere.path().join("big"), vec![0; 100_000]).expect("written");
    fs::create_dir_all(folder.path().join("a/b")).expect("made");
    fs::write(folder.path().join("one.log"), vec![1; 1000]).expect("written");
    fs::write(folder.path().join("a/b/two.log"), vec![1; 5000]).expect("written");
    fs::hard_link(
        folder.path().join("one.log"),
        folder.path().join("a/same.log"),
    )
    .expect("linked");
    fs::write(folder.path().join("a/three.csv"), "x").expect("written");
    symlink(elsewhere.path(), folder.path().join("elsewhere")).expect("linked");
    symlink(folder.path(), folder.path().join("a/loop")).expect("linked");
    let old = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::options()
        .write(true)
        .open(folder.path().join("a/b/two.log"))
        .and_then(|file| file.set_modified(old))
        .expect("set");
    let path = folder.path().display();
    let (batch, result) = collect(
        "directory",
        &mut build(
            "directory",
            &format!("path: {path}\nmax_size: 1GB\nmax_age: 1h\n"),
        ),
    )
    .await;
    result.expect("read");
    assert_eq!(
        (
            of(&batch, "size_bytes"),
            of(&batch, "files"),
            of(&batch, "folders")
        ),
        (Some(6001.0), Some(4.0), Some(2.0))
    );
    assert!(
        of(&batch, "used_bytes").expect("known") >= 6001.0
            && of(&batch, "used_bytes").expect("known") < 100_000.0
    );
    let age = of(&batch, "newest_timestamp_seconds").expect("known")
        - of(&batch, "oldest_timestamp_seconds").expect("known");
    assert!((86_300.0..86_600.0).contains(&age), "{age}");
    assert_eq!(
        (
            of(&batch, "truncated"),
            of(&batch, "unreadable_entries"),
            of(&batch, "readable")
        ),
        (Some(0.0), Some(0.0), Some(1.0))
    );
    assert_eq!(
        (
            of(&batch, "size_max_bytes"),
            of(&batch, "newest_max_age_seconds")
        ),
        (Some(1_073_741_824.0), Some(3600.0))
    );
    let some = format!("path: {path}\nfiles: '*.log'\nrecursive: false\n");
    let (batch, _) = collect("directory", &mut build("directory", &some)).await;
    assert_eq!(
        (
            of(&batch, "size_bytes"),
            of(&batch, "files"),
            of(&batch, "size_max_bytes")
        ),
        (Some(1000.0), Some(1.0), None)
    );
}

/// Between two looks the last one is shown; a folder that goes away is unreadable, and nothing old
/// is shown of it.
#[tokio::test]
async fn a_look_is_repeated_seldom_and_a_missing_folder_is_no_empty_one() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("one"), "x").expect("written");
    let mut seldom = build("directory", &format!("path: {}\n", folder.path().display()));
    let mut often = build(
        "directory",
        &format!("path: {}\nevery: 1ms\n", folder.path().display()),
    );
    for collector in [&mut seldom, &mut often] {
        assert_eq!(
            of(&collect("directory", collector).await.0, "files"),
            Some(1.0)
        );
    }
    fs::write(folder.path().join("two"), "x").expect("written");
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(
        of(&collect("directory", &mut seldom).await.0, "files"),
        Some(1.0)
    );
    assert_eq!(
        of(&collect("directory", &mut often).await.0, "files"),
        Some(2.0)
    );
    fs::remove_dir_all(folder.path()).expect("removed");
    std::thread::sleep(Duration::from_millis(5));
    let (batch, result) = collect("directory", &mut often).await;
    assert!(result.expect_err("gone").reason.contains("No such file"));
    assert_eq!(
        (
            of(&batch, "readable"),
            of(&batch, "files"),
            of(&batch, "size_bytes")
        ),
        (Some(0.0), None, None)
    );
    // An empty one is no failure.
    fs::create_dir(folder.path()).expect("made");
    std::thread::sleep(Duration::from_millis(5));
    let (batch, result) = collect("directory", &mut often).await;
    result.expect("there again");
    assert_eq!(
        (of(&batch, "files"), of(&batch, "newest_timestamp_seconds")),
        (Some(0.0), None)
    );
}

#[tokio::test]
async fn more_entries_than_the_bound_are_left_out_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    (0..200).for_each(|n| fs::write(folder.path().join(n.to_string()), "x").expect("written"));
    let (batch, result) = collect(
        "directory",
        &mut build(
            "directory",
            &format!("path: {}\nmax_entries: 50\n", folder.path().display()),
        ),
    )
    .await;
    result.expect("read");
    assert_eq!(
        (of(&batch, "files"), of(&batch, "truncated")),
        (Some(50.0), Some(1.0))
    );
}

#[test]
fn mistakes_in_its_configuration_are_named() {
    for (yaml, wanted) in [
        ("{}", "path"),
        ("path: relative/folder", "is not absolute"),
        ("path: /tmp\nfiles: '[a'", "is not a pattern of file names"),
        ("path: /tmp\nmax_size: much", "max_size"),
    ] {
        let errors = try_build("directory", yaml)
            .err()
            .unwrap_or_else(|| panic!("{yaml}"))
            .to_string();
        assert!(errors.contains(wanted), "{yaml}: {errors}");
    }
}

/// As another user would run it: a sub-folder that is closed is counted, and the rest measured.
#[test]
fn a_closed_sub_folder_is_counted_and_costs_only_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("closed")).expect("made");
    fs::write(folder.path().join("open"), "x").expect("written");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("set");
    fs::set_permissions(
        folder.path().join("closed"),
        fs::Permissions::from_mode(0o000),
    )
    .expect("set");
    let config = format!(
        "collectors: {{directory: [{{name: uploads, path: '{}', every: 1s}}]}}\nrules: {{shipped: false}}\n",
        folder.path().display()
    );
    let nightbell = Nightbell::start(&config);
    let page = || nightbell.get("/metrics").1;
    wait_until("it is measured", Duration::from_secs(30), || {
        page().contains("directory_files{")
    });
    let page = page();
    let is_root = rustix::process::geteuid().is_root();
    let unreadable = page
        .lines()
        .find(|line| line.starts_with("directory_unreadable_entries{"))
        .expect("shown");
    assert!(
        unreadable.ends_with(if is_root { " 0" } else { " 1" }),
        "{unreadable}"
    );
    assert!(
        page.lines()
            .any(|line| line.starts_with("directory_files{") && line.ends_with(" 1")),
        "{page}"
    );
    fs::set_permissions(
        folder.path().join("closed"),
        fs::Permissions::from_mode(0o755),
    )
    .expect("set");
}

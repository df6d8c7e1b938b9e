//! Defects that were found by using the built binary: one test for each, so that none returns.

use std::process::Command;
use std::time::Duration;

use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// A state folder that cannot be made ended the program at start; it must go on watching and telling, and say what that costs.
#[test]
fn a_state_folder_that_cannot_be_made_does_not_silence_it() {
    let mut nightbell = Nightbell::start("collectors: {host: {}}\n");
    nightbell.kill();
    let folder = nightbell.config_file().with_file_name("state");
    std::fs::remove_dir_all(&folder).expect("the state folder was there");
    std::fs::write(&folder, "a file stands in its place").expect("a file is written");
    nightbell.restart();
    wait_until("it is ready without a state folder", Duration::from_secs(20), || nightbell.get("/-/ready").0 == 200);
    let said = nightbell.log();
    assert!(said.contains("in memory only") && said.contains("--state-dir takes another"), "{said}");
}

/// Mistakes in the rule files that a configuration names are told together with its own.
#[test]
fn mistakes_in_rule_files_are_told_with_those_of_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("r.yml"), "groups: [{name: g, rules: [{alert: A, expr: 'up ==='}]}]\n").expect("written");
    std::fs::write(folder.path().join("n.yml"), "rule_files: [r.yml]\nweb: {lisen: x}\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
        .args(["check", "config", "n.yml"])
        .current_dir(folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("web.lisen: unknown key") && said.contains("could not parse expression"), "{said}");
}

/// `check config` reads the group files that jobs name, as promtool does; `--syntax-only` reads no file but the one that it is given.
#[test]
fn check_config_reads_what_the_file_names_unless_only_its_syntax_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prometheus.yml");
    let text =
        "scrape_configs:\n- job_name: a\n  authorization: {credentials_file: CREDENTIALS}\n  file_sd_configs: [{files: [targets.json]}]\n";
    std::fs::write(folder.path().join("targets.json"), "[{\"targets\": \"a:1\"").expect("writable");
    std::fs::write(folder.path().join("token"), "x").expect("writable");
    let check = |credentials: &str, words: &[&str]| {
        std::fs::write(&file, text.replace("CREDENTIALS", credentials)).expect("writable");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nightbell"));
        let output = command.args(["check", "config"]).args(words).arg(&file).output().expect("nightbell runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = check("token", &[]);
    assert!(status == Some(1) && said.contains("targets.json"), "{status:?} {said}");
    let (status, said) = check("absent", &[]);
    assert!(status == Some(1) && said.contains("credentials_file"), "{status:?} {said}");
    assert_eq!(check("absent", &["--syntax-only"]), (Some(0), String::new()));
}

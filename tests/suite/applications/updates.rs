//! Pending updates of the machine and of the application's Python environment: the part of the three
//! profiles that their guides ask for, with a system and an index of the test's own.

use std::time::Duration;

use super::{People, rings, root, wait_for_input};
use crate::collectors_updates::{System, environment, knows};
use crate::servers::llm::FakeLlm;
use crate::servers::nightbell::Nightbell;
use crate::servers::wait_until;

/// Security updates come and are installed, of the system and of Python's packages; a restart is
/// due.
///
/// Proves intent: C22.
/// Proves agent-v3: C22.
/// Proves multi-agent: C22.
#[test]
fn updates_that_three_guides_ask_for_are_notified() {
    for profile in ["intent", "agent-v3", "multi-agent"] {
        let path = root()
            .join("deploy/profiles")
            .join(format!("{profile}.yml"));
        let text = std::fs::read_to_string(path).expect("the sample");
        let block = text
            .lines()
            .find(|line| line.starts_with("  updates: {"))
            .unwrap_or_else(|| panic!("{profile} watches updates"));
        let (system, index, people) = (System::new(), FakeLlm::start(), People::new());
        let status =
            std::fs::read_to_string(system.path("var/lib/dpkg/status")).expect("it is there");
        let safe = status.replace("3.0.14-1~deb12u1", "3.0.15-1~deb12u1");
        system.write("var/lib/dpkg/status", &safe);
        let venv = system.path("app/.venv");
        let package = |version: &str| {
            let _none_yet = std::fs::remove_dir_all(&venv);
            environment(&venv, &[("jinja2", version)]);
        };
        knows(&index, "jinja2", "3.1.4", "3.1.4", 0);
        knows(&index, "jinja2", "3.1.2", "3.1.4", 1);
        package("3.1.4");
        let quick = "{for: 0s}";
        let config = format!(
            "rules: {{profiles: [{profile}], thresholds: {{SecurityUpdatesPending: {{warning: {quick}}}, RebootRequired: {{warning: {quick}}}}}}}\n\
             global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\ncollectors:\n{}\n\
             route: {{receiver: team, group_by: [alertname, manager], group_wait: 0s, group_interval: 1s}}\n\
             receivers: [{{name: team, webhook_configs: [{{url: '{}/hook'}}]}}]\n",
            block.replace("updates: {", "updates: {every: 1s, "),
            people.webhook.url
        );
        let (home, venv_text) = (system.path("app"), venv.display().to_string());
        let nightbell = Nightbell::start_with(
            Some(&config),
            &[
                ("HOST_ROOT", &system.folder.path().display().to_string()),
                ("PYTHON_INDEX", &index.url("/")),
                ("INTENT_HOME", &home.display().to_string()),
                ("APP_VENV", &venv_text),
            ],
        );
        wait_for_input(
            &nightbell,
            &[
                "updates_readable{manager=\"apt\"} == 1",
                "updates_security_pending{manager=\"python\"} == 0",
            ],
        );
        let upgrade = rings(
            &people,
            "SecurityUpdatesPending",
            "updates",
            || system.write("var/lib/dpkg/status", &status),
            || system.write("var/lib/dpkg/status", &safe),
        );
        assert_eq!(upgrade["labels"]["manager"], "apt", "{upgrade}");
        assert_eq!(
            upgrade["annotations"]["summary"],
            "updates: 1 packages need security updates (apt)"
        );
        let upgrade = rings(
            &people,
            "SecurityUpdatesPending",
            "updates",
            || package("3.1.2"),
            || package("3.1.4"),
        );
        assert_eq!(upgrade["labels"]["manager"], "python", "{upgrade}");
        assert_eq!(
            upgrade["labels"]["environment"],
            venv_text.as_str(),
            "{upgrade}"
        );
        system.write("run/reboot-required", "");
        wait_until("the restart is notified", Duration::from_secs(60), || {
            !people.posted("RebootRequired").is_empty()
        });
    }
}

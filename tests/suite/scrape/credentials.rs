//! Credentials in files: read when they are used.

use super::*;

/// A token that is renewed in its file goes out with the next scrape, without a reload; so do a
/// password and a header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_credentials_file_is_used_without_a_reload() {
    let server = Hostile::page("a 1\n");
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("secret", "old\n");
    let run = Loop::new();
    let jobs = [
        ("token", "authorization: {credentials_file: secret}"),
        ("older", "bearer_token_file: secret"),
        (
            "password",
            "basic_auth: {username: u, password_file: secret}",
        ),
        ("header", "http_headers: {X-Key: {files: [secret]}}"),
    ];
    let text: String = jobs
        .iter()
        .map(|(name, more)| job(name, &server.address, &format!(", {more}")))
        .collect();
    run.scraper
        .apply(plan_in(&format!("scrape_configs:\n{text}"), folder.path()).expect("valid"));
    let said = |wanted: [&str; 3]| {
        let heads = server.heads();
        let of = |name: &str, value: &str| {
            heads
                .iter()
                .filter(|head| fields(head).get(name).is_some_and(|v| v == value))
                .count()
        };
        of("authorization", wanted[0]) > 1
            && of("authorization", wanted[1]) > 0
            && of("x-key", wanted[2]) > 0
    };
    until("the old secret", || {
        said(["Bearer old", "Basic dTpvbGQ=", "old"])
    })
    .await;
    write("secret", "  new\n\n");
    until("the new secret", || {
        said(["Bearer new", "Basic dTpuZXc=", "new"])
    })
    .await;
    assert!(server.heads().iter().any(|head| {
        fields(head)
            .get("authorization")
            .is_some_and(|v| v == "Basic dTpuZXc=")
    }));
}

/// A file that is missing is that target's failure, with its reason, and no other's; the target
/// comes up once it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_credentials_file_is_that_targets_failure() {
    let server = Hostile::page("a 1\n");
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "scrape_configs:\n{}{}",
        job("other", &server.address, ""),
        job(
            "login",
            &server.address,
            ", basic_auth: {username: u, password_file: absent}"
        )
    );
    let document = Document::parse("nightbell.yml", &text).expect("YAML");
    let environment = Environment::default();
    let loader = Loader::new(&document, &environment, folder.path());
    let jobs = read_jobs(&loader.root(), &Global::default());
    let mistakes = loader.into_errors().0;
    assert!(mistakes.len() == 1 && mistakes[0].non_fatal, "{mistakes:?}");
    assert!(
        mistakes[0].to_string().contains("nightbell.yml:3:")
            && mistakes[0].to_string().contains("absent"),
        "{}",
        mistakes[0]
    );
    let run = Loop::new();
    run.scraper.apply(Plan {
        jobs,
        ..Plan::default()
    });
    let error = run.failure("login").await;
    assert!(
        error.starts_with("credentials: password_file: ")
            && error.contains("absent: cannot be read: No such file"),
        "{error}"
    );
    let up = |job: &str| {
        let targets = run.scraper.targets();
        targets
            .iter()
            .any(|t| t.info.pool == job && t.status.health == Health::Up)
    };
    until("the other target", || up("other")).await;
    std::fs::write(folder.path().join("absent"), "late").expect("written");
    until("the target whose file has come", || up("login")).await;
}

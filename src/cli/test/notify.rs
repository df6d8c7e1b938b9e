//! `test notify`: sends one marked message to a receiver, now, and says what came of it. Nobody
//! else is notified and nothing is stored.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::alerting::{Receiver, ended, test_message};
use crate::app;
use crate::cli::terminal::{complain, say};
use crate::model::Timestamp;
use crate::notify::Digest;

/// Longest time of one attempt.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whom to tell.
#[derive(Args)]
pub struct TestNotifyArgs {
    /// The receiver's name; in the short form `notify`, the notifier's (slack, email, …)
    receiver: String,
    /// Configuration file
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    config: Option<std::path::PathBuf>,
    /// Files of NAME=value lines for ${NAME} in the configuration; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
}

/// Exit status 0 when every integration accepted the message, 1 when one did not, 2 when there is
/// no such receiver.
pub async fn test_notify(args: &TestNotifyArgs) -> ExitCode {
    let options = app::Options {
        config: args.config.clone(),
        env_files: args.env_file.clone(),
        ..app::Options::default()
    };
    let alerting = match app::load(&options) {
        Ok(config) => config.alerting,
        Err(error) => {
            complain!("nightbell: {error:#}");
            return ExitCode::from(2);
        }
    };
    let Some(receiver) = alerting.receiver(&args.receiver) else {
        let known: Vec<&str> = alerting.receivers.iter().map(|r| r.name.as_str()).collect();
        complain!(
            "nightbell: there is no receiver {:?}; there is {}",
            args.receiver,
            known.join(", ")
        );
        return ExitCode::from(2);
    };
    if receiver.integrations.is_empty() {
        complain!(
            "nightbell: receiver {:?} tells nobody: it has no integration",
            receiver.name
        );
        return ExitCode::from(2);
    }
    if tell(receiver, &alerting.external_url).await {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn tell(receiver: &Receiver, external_url: &str) -> bool {
    let mut all = true;
    for integration in &receiver.integrations {
        let message = test_message(integration, external_url, Timestamp::now());
        let outcome = tokio::time::timeout(DEADLINE, integration.notifier.notify(&message)).await;
        all &= matches!(outcome, Ok(Ok(())));
        if matches!(outcome, Ok(Ok(()))) && integration.notifier.digest() == Digest::Never {
            // For a pager the message is an incident, which must not stay open.
            let over =
                tokio::time::timeout(DEADLINE, integration.notifier.notify(&ended(message))).await;
            all &= matches!(over, Ok(Ok(())));
        }
        match outcome {
            Ok(Ok(())) if integration.notifier.action().is_some() => {
                say!("{}: can be taken; nothing was done", integration.key)
            }
            Ok(Ok(())) => say!("{}: accepted", integration.key),
            Ok(Err(error)) => say!(
                "{}: FAILED: {}: {error}",
                integration.key,
                error.reason.as_str()
            ),
            Err(_) => say!(
                "{}: FAILED: timeout: no answer within {}s",
                integration.key,
                DEADLINE.as_secs()
            ),
        }
    }
    all
}

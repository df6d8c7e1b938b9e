//! Brings reports to a nightbell: briefly, and never in the way of the command. What cannot be
//! delivered waits in the folder for the next run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use url::Url;

use super::folder::{Folder, Waiting, read};
use super::note;
use crate::cli::live::server::{authorize, client};
use crate::collectors::job::Report;
use crate::http::Request;
use crate::model::text::visible;

/// How long the end of the command may be held up.
const LAST: Duration = Duration::from_secs(3);
/// How long the report of the beginning may take, beside the command.
const FIRST: Duration = Duration::from_secs(30);
/// Reports that waited, delivered by one run at most.
const MOST: usize = 50;
const URL: &str = "http://127.0.0.1:9908";

/// Where reports go.
#[derive(Clone)]
pub struct Delivery {
    name: String,
    url: String,
    token_file: Option<PathBuf>,
    folder: Folder,
}

/// Why a report was not delivered.
enum Failure {
    /// Another attempt may help.
    Later(String),
    /// It will not.
    Never(String),
}

impl Delivery {
    /// Nothing is read or asked yet.
    pub fn new(name: &str, url: Option<&str>, token_file: Option<&Path>, folder: Folder) -> Self {
        let url = url
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .unwrap_or(URL)
            .to_owned();
        Delivery {
            name: name.to_owned(),
            url,
            token_file: token_file.map(Path::to_owned),
            folder,
        }
    }

    /// Reports the beginning of a run. What does not arrive is said at its end.
    pub async fn first(self, report: Report) {
        drop(self.send(&self.name, &report, Instant::now() + FIRST).await);
    }

    /// Reports the end of a run, and what waited.
    pub async fn last(&self, report: Report) {
        let deadline = Instant::now() + LAST;
        match self.send(&self.name, &report, deadline).await {
            Ok(()) => self.deliver_waiting(deadline).await,
            Err(Failure::Never(problem)) => note!(
                "nightbell: job {}: not reported: {}",
                self.name,
                visible(&problem)
            ),
            Err(Failure::Later(problem)) => {
                let waiting = Waiting {
                    name: self.name.clone(),
                    url: self.url.clone(),
                    report,
                };
                match self.folder.keep(&waiting) {
                    Ok(()) => note!(
                        "nightbell: job {}: the next run reports this one, too: {}",
                        self.name,
                        visible(&problem)
                    ),
                    Err(error) => note!(
                        "nightbell: job {}: not reported: {}; nor kept: {error}",
                        self.name,
                        visible(&problem)
                    ),
                }
            }
        }
    }

    async fn deliver_waiting(&self, deadline: Instant) {
        for path in self.folder.list().into_iter().take(MOST) {
            let Some(waiting) = read(&path).filter(|waiting| waiting.url == self.url) else {
                continue;
            };
            match self.send(&waiting.name, &waiting.report, deadline).await {
                Err(Failure::Later(_)) => return,
                // It is delivered, or never will be.
                Ok(()) | Err(Failure::Never(_)) => drop(std::fs::remove_file(&path)),
            }
        }
    }

    async fn send(&self, name: &str, report: &Report, deadline: Instant) -> Result<(), Failure> {
        let never = |problem: String| Failure::Never(problem);
        let mut url = Url::parse(&self.url)
            .map_err(|error| never(format!("{:?} is not a URL: {error}", self.url)))?;
        let Ok(mut path) = url.path_segments_mut() else {
            return Err(never(format!("{:?} is not a URL of a server", self.url)));
        };
        path.pop_if_empty()
            .extend(["api", "nightbell", "job", name]);
        drop(path);
        let body = serde_json::to_value(report).map_err(|error| never(error.to_string()))?;
        let mut request = Request::post_json(
            url,
            &body,
            deadline.saturating_duration_since(Instant::now()),
        );
        let token = self.token();
        authorize(&mut request, token.as_deref()).map_err(never)?;
        let sent = timeout_at(deadline, client().send(request)).await;
        let response = sent
            .map_err(|_| Failure::Later("timed out".into()))?
            .map_err(|error| Failure::Later(error.to_string()))?;
        let said = format!(
            "status {}: {}",
            response.status,
            response.text().trim().chars().take(300).collect::<String>()
        );
        match response.status {
            200 => Ok(()),
            400 | 404 | 405 | 413 => Err(Failure::Never(said)),
            _ => Err(Failure::Later(said)),
        }
    }

    /// The token of the file, or of the environment.
    fn token(&self) -> Option<String> {
        let Some(file) = &self.token_file else {
            return std::env::var("NIGHTBELL_ADMIN_TOKEN")
                .ok()
                .filter(|token| !token.is_empty());
        };
        let read = std::fs::read_to_string(file)
            .map_err(|error| note!("nightbell: {}: {error}", file.display()));
        read.ok().map(|text| text.trim().to_owned())
    }
}

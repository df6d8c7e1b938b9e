//! Tables `outbox` and `dead_letters`: messages that a receiver has not accepted yet, and those
//! that no attempt could bring.
//!
//! Rows enter through [`crate::state::Transition`], together with the decision that made them, and
//! leave when the receiver has accepted them.

use super::decisions;
use crate::model::Timestamp;
use crate::state::statement::{Statement, statement};
use crate::state::{DecisionRow, Error, State, on_pool};

/// How many dead letters are kept; the oldest leave first.
pub const MAX_DEAD_LETTERS: i64 = 1000;

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Identity of the message: the same for each attempt.
    pub delivery_id: String,
    /// `receiver/notifier/index`.
    pub integration: String,
    /// Alertmanager's group key.
    pub group_key: String,
    /// When it was decided.
    pub created_at: Timestamp,
    /// Whether it waits for the end of its receiver's quiet hours.
    pub held: bool,
    /// The message as JSON.
    pub body: String,
}

/// A message that could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub message: OutboxRow,
    /// When it was given up.
    pub died_at: Timestamp,
    /// Why, in words without secrets.
    pub error: String,
}

/// A query for messages on their way, as [`row`] reads them.
macro_rules! waiting {
    ($rest:literal) => {
        concat!(
            "SELECT seq, delivery_id, integration, group_key, created_ms, held, body FROM outbox ",
            $rest
        )
    };
}

/// A query for dead letters, as [`letter`] reads them.
macro_rules! dead_letters {
    ($rest:literal) => {
        concat!("SELECT delivery_id, integration, group_key, created_ms, died_ms, error, body FROM dead_letters ", $rest)
    };
}

type Columns = (i64, String, String, String, i64, i64, String);

fn row(
    (seq, delivery_id, integration, group_key, created, held, body): Columns,
) -> (i64, OutboxRow) {
    (
        seq,
        OutboxRow {
            delivery_id,
            integration,
            group_key,
            created_at: Timestamp(created),
            held: held != 0,
            body,
        },
    )
}

type LetterColumns = (String, String, String, i64, i64, String, String);

fn letter(
    (delivery_id, integration, group_key, created, died, error, body): LetterColumns,
) -> DeadLetter {
    DeadLetter {
        message: OutboxRow {
            delivery_id,
            integration,
            group_key,
            created_at: Timestamp(created),
            held: false,
            body,
        },
        died_at: Timestamp(died),
        error,
    }
}

impl State {
    /// The first message of an integration after position `after` (0: the very first), with its own
    /// position; `held` ones count only when asked for.
    pub async fn next_message(
        &self,
        integration: &str,
        after: i64,
        held: bool,
    ) -> Result<Option<(i64, OutboxRow)>, Error> {
        let found: Option<Columns> = on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as(waiting!(
                "WHERE integration = $1 AND seq > $2 \
                 AND held <= $3 ORDER BY seq LIMIT 1"
            ))
            .bind(integration)
            .bind(after)
            .bind(i64::from(held))
            .fetch_optional(pool)
            .await
        })?;
        Ok(found.map(row))
    }

    /// The messages of an integration after position `after`, oldest first, at most `limit`; only
    /// those that are `held`, or only the others.
    pub async fn next_messages(
        &self,
        integration: &str,
        after: i64,
        held: bool,
        limit: i64,
    ) -> Result<Vec<(i64, OutboxRow)>, Error> {
        let rows: Vec<Columns> = on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as(waiting!(
                "WHERE integration = $1 AND seq > $2 \
                 AND held = $3 ORDER BY seq LIMIT $4"
            ))
            .bind(integration)
            .bind(after)
            .bind(i64::from(held))
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(row).collect())
    }

    /// The clock has jumped by so many milliseconds: what waits has not grown older by it.
    pub async fn move_messages(&self, millis: i64) -> Result<(), Error> {
        self.write(
            "write outbox",
            &[statement(
                "UPDATE outbox SET created_ms = created_ms + $1",
                [millis.into()],
            )],
        )
        .await
    }

    /// How many messages wait for an integration and are not held.
    pub async fn outbox_size(&self, integration: &str) -> Result<i64, Error> {
        let (count,): (i64,) = on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as("SELECT COUNT(*) FROM outbox WHERE integration = $1 AND held = 0")
                .bind(integration)
                .fetch_one(pool)
                .await
        })?;
        Ok(count)
    }

    /// The messages of the group of `message` that wait for its integration beside it, oldest
    /// first, at most `limit`; `held` ones only when asked for.
    pub async fn group_messages(
        &self,
        message: &OutboxRow,
        held: bool,
        limit: i64,
    ) -> Result<Vec<(i64, OutboxRow)>, Error> {
        let rows: Vec<Columns> = on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as(waiting!(
                "WHERE integration = $1 AND group_key = $2 \
                 AND delivery_id <> $3 AND held <= $4 ORDER BY seq LIMIT $5"
            ))
            .bind(message.integration.as_str())
            .bind(message.group_key.as_str())
            .bind(message.delivery_id.as_str())
            .bind(i64::from(held))
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(row).collect())
    }

    /// Every message, oldest first; for tests and inspection. At most `limit`.
    pub async fn outbox(&self, limit: i64) -> Result<Vec<OutboxRow>, Error> {
        let rows: Vec<Columns> = on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as(waiting!("ORDER BY seq LIMIT $1"))
                .bind(limit)
                .fetch_all(pool)
                .await
        })?;
        Ok(rows.into_iter().map(|columns| row(columns).1).collect())
    }

    /// The messages that wait: integration and delivery.
    pub async fn outbox_deliveries(&self) -> Result<Vec<(String, String)>, Error> {
        on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as(
                "SELECT integration, delivery_id FROM outbox ORDER BY integration, delivery_id",
            )
            .fetch_all(pool)
            .await
        })
    }

    /// The recipients that a message is done with.
    pub async fn served(&self, delivery_id: &str) -> Result<Vec<String>, Error> {
        let found: Option<(String,)> = on_pool!(self, "read outbox", |pool| async {
            sqlx::query_as("SELECT served FROM outbox WHERE delivery_id = $1")
                .bind(delivery_id)
                .fetch_optional(pool)
                .await
        })?;
        Ok(found
            .and_then(|(list,)| serde_json::from_str(&list).ok())
            .unwrap_or_default())
    }

    /// Remembers the recipients that a message is done with.
    pub async fn put_served(&self, delivery_id: &str, served: &[String]) -> Result<(), Error> {
        let list = serde_json::to_string(served).unwrap_or_default();
        self.write(
            "write outbox",
            &[statement(
                "UPDATE outbox SET served = $1 WHERE delivery_id = $2",
                [list.into(), delivery_id.into()],
            )],
        )
        .await
    }

    /// Takes an accepted message out.
    pub async fn remove_message(&self, delivery_id: &str) -> Result<(), Error> {
        self.write("remove message", &[remove(delivery_id)]).await
    }

    /// Takes a message out whose fate is decided, and records that.
    pub async fn settle_message(
        &self,
        delivery_id: &str,
        decisions: &[DecisionRow],
    ) -> Result<(), Error> {
        let statements: Vec<Statement> = std::iter::once(remove(delivery_id))
            .chain(decisions.iter().map(decisions::put))
            .collect();
        // Should it be undone, the message comes once more, with its delivery id.
        self.write_lightly("remove message", &statements).await
    }

    /// Replaces the message `keep` by `body` and takes the messages `superseded` out, in one
    /// transaction.
    pub async fn merge_messages(
        &self,
        keep: &str,
        body: &str,
        superseded: &[String],
    ) -> Result<(), Error> {
        let update = statement(
            "UPDATE outbox SET body = $1 WHERE delivery_id = $2",
            [body.into(), keep.into()],
        );
        let statements: Vec<Statement> = std::iter::once(update)
            .chain(superseded.iter().map(|id| remove(id)))
            .collect();
        self.write("merge messages", &statements).await
    }

    /// Replaces the first of `superseded` by the message `digest` and takes these out; `rest` takes
    /// that position, too. One transaction.
    pub async fn replace_messages(
        &self,
        digest: &OutboxRow,
        superseded: &[String],
        rest: Option<&OutboxRow>,
    ) -> Result<(), Error> {
        let Some((first, others)) = superseded.split_first() else {
            return Ok(());
        };
        let update = statement(
            "UPDATE outbox SET delivery_id = $1, group_key = $2, created_ms = $3, body = $4 WHERE delivery_id = $5",
            [
                digest.delivery_id.as_str().into(),
                digest.group_key.as_str().into(),
                digest.created_at.into(),
                digest.body.as_str().into(),
                first.as_str().into(),
            ],
        );
        let beside = |row: &OutboxRow| {
            statement(
                "INSERT INTO outbox (delivery_id, seq, integration, group_key, created_ms, held, body) \
                 SELECT $1, seq, $2, $3, $4, held, $5 FROM outbox WHERE delivery_id = $6 ON CONFLICT (delivery_id) DO NOTHING",
                [
                    row.delivery_id.as_str().into(),
                    row.integration.as_str().into(),
                    row.group_key.as_str().into(),
                    row.created_at.into(),
                    row.body.as_str().into(),
                    digest.delivery_id.as_str().into(),
                ],
            )
        };
        let statements = std::iter::once(update)
            .chain(others.iter().map(|id| remove(id)))
            .chain(rest.map(beside));
        self.write("replace messages", &statements.collect::<Vec<_>>())
            .await
    }

    /// Replaces `delivery_id` in the outbox by `messages`, in one transaction.
    pub async fn hand_over(&self, delivery_id: &str, messages: &[OutboxRow]) -> Result<(), Error> {
        let statements: Vec<Statement> = messages
            .iter()
            .map(put)
            .chain([remove(delivery_id)])
            .collect();
        self.write("hand over message", &statements).await
    }

    /// Moves a message to the dead letters and drops the oldest of those beyond
    /// [`MAX_DEAD_LETTERS`].
    pub async fn move_to_dead_letters(&self, letter: &DeadLetter) -> Result<(), Error> {
        self.write(
            "move to dead letters",
            &[
                insert_letter(letter),
                remove(&letter.message.delivery_id),
                forget_oldest_letters(),
            ],
        )
        .await
    }

    /// Removes a dead letter.
    pub async fn remove_dead_letter(&self, delivery_id: &str) -> Result<(), Error> {
        let gone = statement(
            "DELETE FROM dead_letters WHERE delivery_id = $1",
            [delivery_id.into()],
        );
        self.write("remove dead letter", &[gone]).await
    }

    /// Puts a dead letter back into the outbox, as a message of `now`; false when there is none of
    /// this id.
    pub async fn revive_message(&self, delivery_id: &str, now: Timestamp) -> Result<bool, Error> {
        let back = statement(
            "INSERT INTO outbox (delivery_id, seq, integration, group_key, created_ms, held, body, served) \
             SELECT delivery_id, (SELECT COALESCE(MAX(seq), 0) + 1 FROM outbox), integration, group_key, $1, 0, body, served \
             FROM dead_letters WHERE delivery_id = $2 ON CONFLICT (delivery_id) DO NOTHING",
            [now.into(), delivery_id.into()],
        );
        let gone = statement(
            "DELETE FROM dead_letters WHERE delivery_id = $1",
            [delivery_id.into()],
        );
        let known = self.dead_letter(delivery_id).await?.is_some();
        self.write("send dead letter", &[back, gone]).await?;
        Ok(known)
    }

    /// The dead letter of this id.
    pub async fn dead_letter(&self, delivery_id: &str) -> Result<Option<DeadLetter>, Error> {
        let row: Option<LetterColumns> = on_pool!(self, "read dead letters", |pool| async {
            sqlx::query_as(dead_letters!("WHERE delivery_id = $1"))
                .bind(delivery_id)
                .fetch_optional(pool)
                .await
        })?;
        Ok(row.map(letter))
    }

    /// The dead letters, youngest first, at most `limit`.
    pub async fn dead_letters(&self, limit: i64) -> Result<Vec<DeadLetter>, Error> {
        let rows: Vec<LetterColumns> = on_pool!(self, "read dead letters", |pool| async {
            sqlx::query_as(dead_letters!(
                "\
                 ORDER BY died_ms DESC, delivery_id LIMIT $1"
            ))
            .bind(limit)
            .fetch_all(pool)
            .await
        })?;
        Ok(rows.into_iter().map(letter).collect())
    }
}

/// Adds a message behind all others; one that is already there stays as it is.
pub(in crate::state) fn put(row: &OutboxRow) -> Statement {
    statement(
        "INSERT INTO outbox (delivery_id, seq, integration, group_key, created_ms, held, body) \
         VALUES ($1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM outbox), $2, $3, $4, $5, $6) ON CONFLICT (delivery_id) DO NOTHING",
        [
            row.delivery_id.as_str().into(),
            row.integration.as_str().into(),
            row.group_key.as_str().into(),
            row.created_at.into(),
            i64::from(row.held).into(),
            row.body.as_str().into(),
        ],
    )
}

/// Drops the oldest dead letters beyond [`MAX_DEAD_LETTERS`].
fn forget_oldest_letters() -> Statement {
    statement(
        "DELETE FROM dead_letters WHERE delivery_id NOT IN (SELECT delivery_id FROM dead_letters ORDER BY died_ms DESC LIMIT $1)",
        [MAX_DEAD_LETTERS.into()],
    )
}

/// Keeps both tables within these bounds: the oldest messages beyond them become dead letters, the
/// oldest dead letters go.
pub(in crate::state) fn bounds(messages: i64, letter_bytes: i64, now: Timestamp) -> [Statement; 4] {
    let oldest = "INSERT INTO dead_letters (delivery_id, integration, group_key, created_ms, died_ms, error, body) \
                  SELECT delivery_id, integration, group_key, created_ms, $1, 'too many messages wait', body FROM outbox \
                  WHERE seq <= (SELECT MAX(seq) FROM outbox) - $2 ON CONFLICT (delivery_id) DO NOTHING";
    let gone = "DELETE FROM outbox WHERE seq <= (SELECT MAX(seq) FROM outbox) - $1";
    let large = "DELETE FROM dead_letters WHERE delivery_id IN (SELECT delivery_id FROM (SELECT delivery_id, \
                 SUM(LENGTH(body)) OVER (ORDER BY died_ms DESC, delivery_id) AS bytes FROM dead_letters) AS sizes WHERE bytes > $1)";
    [
        statement(oldest, [now.into(), messages.into()]),
        statement(gone, [messages.into()]),
        forget_oldest_letters(),
        statement(large, [letter_bytes.into()]),
    ]
}

fn remove(delivery_id: &str) -> Statement {
    statement(
        "DELETE FROM outbox WHERE delivery_id = $1",
        [delivery_id.into()],
    )
}

fn insert_letter(letter: &DeadLetter) -> Statement {
    let message = &letter.message;
    statement(
        "INSERT INTO dead_letters (delivery_id, integration, group_key, created_ms, died_ms, error, body, served) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, COALESCE((SELECT served FROM outbox WHERE delivery_id = $1), '')) \
         ON CONFLICT (delivery_id) DO NOTHING",
        [
            message.delivery_id.as_str().into(),
            message.integration.as_str().into(),
            message.group_key.as_str().into(),
            message.created_at.into(),
            letter.died_at.into(),
            letter.error.as_str().into(),
            message.body.as_str().into(),
        ],
    )
}

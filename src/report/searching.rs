//! Lines of the daily check about what language models rest on: servers of models, searches of
//! vector stores, questions whose source is known.

use super::checks::{Check, Facts, Mark, named};

/// From this share of questions on it is no more than something to look at.
const ENOUGH: f64 = 0.8;

impl Facts<'_> {
    /// One line for each collection that does not find what is stored, each target whose questions
    /// miss their source, each server that is not ready; and one for all that are well. Nothing
    /// where nothing of it is watched.
    pub(super) fn searching(&self) -> Vec<Check> {
        let mut lines = Vec::new();
        let well = |lines: &mut Vec<Check>, subject, name: &str, count: usize| {
            if count > 0 {
                let value = match self.language {
                    crate::model::Language::En => format!("{count} are well"),
                    crate::model::Language::Zh => format!("{count} 个正常"),
                };
                lines.push(self.line(Mark::Good, subject, name.to_owned(), value));
            }
        };
        let name = self.pick("vector search", "向量检索");
        let found = self.answer("canary");
        for (labels, _) in found.iter().filter(|(_, value)| *value == 0.0) {
            let collection = labels.value("collection");
            lines.push(Check {
                limit: self.pick("finds itself", "能查到自身").to_owned(),
                hint: self
                    .pick("rebuild the index of the collection", "重建该集合的索引")
                    .to_owned(),
                ..self.line(
                    Mark::Bad,
                    "search",
                    format!("{} {collection}", named(name, labels)),
                    self.pick("does not find a stored vector", "查不到已存向量")
                        .to_owned(),
                )
            });
        }
        well(
            &mut lines,
            "search",
            name,
            found.iter().filter(|(_, value)| *value != 0.0).count(),
        );
        let name = self.pick("retrieval", "检索问答");
        for (labels, ratio) in self.answer("retrieval") {
            let mark = match *ratio {
                1.0 => Mark::Good,
                ratio if ratio >= ENOUGH => Mark::Look,
                _ => Mark::Bad,
            };
            let hint = match mark {
                Mark::Good => "",
                _ => self.pick(
                    "see retrieval_hit: was the source removed, or the model changed?",
                    "查看 retrieval_hit：来源是否被删除或模型已更换",
                ),
            };
            let percent = super::words::percent(*ratio);
            let value = self.language.pick(
                format!("{percent} of the questions find their source"),
                format!("{percent} 的问题检索到来源"),
            );
            lines.push(Check {
                limit: "100 %".to_owned(),
                hint: hint.to_owned(),
                ..self.line(mark, "retrieval", named(name, labels), value)
            });
        }
        let name = self.pick("LLM server", "模型服务");
        let servers = self.answer("llm_server");
        for (labels, _) in servers.iter().filter(|(_, value)| *value == 0.0) {
            lines.push(Check {
                hint: self.pick("see its own log", "查看其自身日志").to_owned(),
                ..self.line(
                    Mark::Bad,
                    "llm_server",
                    named(name, labels),
                    self.pick("is not ready", "未就绪").to_owned(),
                )
            });
        }
        well(
            &mut lines,
            "llm_server",
            name,
            servers.iter().filter(|(_, value)| *value != 0.0).count(),
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::{LabelsBuilder, Language, Timestamp};
    use crate::report::checks::Answer;

    fn series(instance: &str, value: f64) -> (crate::model::Labels, f64) {
        let mut labels = LabelsBuilder::new();
        labels.set("instance", instance).set("collection", "docs");
        (labels.build(), value)
    }

    #[test]
    fn searches_that_do_not_find_are_bad_and_nothing_is_said_where_nothing_is_watched() {
        let answers: HashMap<&'static str, Answer> = HashMap::from([
            ("canary", Ok(vec![series("a", 1.0), series("b", 0.0)])),
            ("retrieval", Ok(vec![series("c", 0.9), series("d", 0.5)])),
            ("llm_server", Ok(vec![series("e", 1.0), series("f", 0.0)])),
        ]);
        let none = HashMap::new();
        let facts = |answers| Facts {
            answers,
            alerts: None,
            daily: false,
            now: Timestamp(0),
            language: Language::En,
        };
        assert!(facts(&none).searching().is_empty());
        let signs: String = facts(&answers)
            .searching()
            .iter()
            .map(|line| line.mark.sign())
            .collect();
        assert_eq!(signs, "✗✓!✗✗✓");
    }
}

//! Classes of errors: a closed set, because they label a metric. What a library, a provider or a
//! status calls an error is sorted by a table.

/// A part of an error's type in lower case, letters and digits only, and the class that it means;
/// the first that fits counts.
const CLASSES: &[(&str, &str)] = &[
    ("insufficientquota", "quota_exhausted"),
    ("quotaexhausted", "quota_exhausted"),
    ("billing", "quota_exhausted"),
    ("budgetexceeded", "quota_exhausted"),
    ("402", "quota_exhausted"),
    ("contextwindow", "context_length"),
    ("contextlength", "context_length"),
    ("contentfilter", "content_filter"),
    ("contentpolicy", "content_filter"),
    ("safety", "content_filter"),
    ("ratelimit", "rate_limited"),
    ("toomanyrequests", "rate_limited"),
    ("throttl", "rate_limited"),
    ("429", "rate_limited"),
    ("authentication", "auth"),
    ("unauthorized", "auth"),
    ("invalidapikey", "auth"),
    ("401", "auth"),
    ("permission", "permission"),
    ("forbidden", "permission"),
    ("403", "permission"),
    ("modelnotfound", "model_not_found"),
    ("notfound", "model_not_found"),
    ("404", "model_not_found"),
    ("overloaded", "overloaded"),
    ("serviceunavailable", "overloaded"),
    ("529", "overloaded"),
    ("503", "overloaded"),
    ("timeout", "timeout"),
    ("timedout", "timeout"),
    ("deadline", "timeout"),
    ("408", "timeout"),
    ("504", "timeout"),
    ("cancel", "cancelled"),
    ("abort", "cancelled"),
    ("connect", "connect"),
    ("network", "connect"),
    ("dns", "connect"),
    ("internalserver", "server_error"),
    ("servererror", "server_error"),
    ("apierror", "server_error"),
    ("badrequest", "bad_request"),
    ("unprocessable", "bad_request"),
    ("invalidrequest", "bad_request"),
    ("validation", "bad_request"),
    ("400", "bad_request"),
    ("422", "bad_request"),
];

/// The class of an error by its type, which may be a name, a code or a status.
pub fn class_of(kind: &str) -> &'static str {
    let plain: String = kind
        .chars()
        .take(200)
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if let Some((_, class)) = CLASSES.iter().find(|(part, _)| plain.contains(part)) {
        return class;
    }
    match plain.parse::<u16>() {
        Ok(500..=599) => "server_error",
        Ok(400..=499) => "bad_request",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::class_of;

    #[test]
    fn errors_of_libraries_and_statuses_fall_into_few_classes() {
        for (kind, class) in [
            ("RateLimitError", "rate_limited"),
            ("openai.APITimeoutError", "timeout"),
            ("insufficient_quota", "quota_exhausted"),
            ("anthropic.OverloadedError", "overloaded"),
            ("500", "server_error"),
            ("502", "server_error"),
            ("418", "bad_request"),
            ("APIConnectionError", "connect"),
            ("ContextWindowExceededError", "context_length"),
            ("asyncio.CancelledError", "cancelled"),
            ("_OTHER", "other"),
            ("", "other"),
            ("my secret text", "other"),
        ] {
            assert_eq!(class_of(kind), class, "{kind}");
        }
    }
}

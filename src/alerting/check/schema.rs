//! The keys that Alertmanager takes in an `alertmanager.yml`
//! (<https://prometheus.io/docs/alerting/latest/configuration/>), version 0.33.

/// Keys of the file.
pub(in crate::alerting) const ROOT_KEYS: &[&str] = &[
    "global",
    "route",
    "inhibit_rules",
    "receivers",
    "templates",
    "mute_time_intervals",
    "time_intervals",
    "tracing",
    "event_recorder",
];
/// Keys of `global` that are nightbell's own.
pub(in crate::alerting) const OWN_GLOBAL_KEYS: &[&str] = &["language", "timezone"];
/// Keys of a route.
pub(in crate::alerting) const ROUTE_KEYS: &[&str] = &[
    "receiver",
    "group_by",
    "match",
    "match_re",
    "matchers",
    "continue",
    "routes",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "mute_time_intervals",
    "active_time_intervals",
];

/// One kind of receiver.
pub(in crate::alerting) struct Kind {
    pub(in crate::alerting) key: &'static str,
    /// What its block may hold, besides `send_resolved` and `http_config`.
    pub(in crate::alerting) keys: &'static [&'static str],
    /// For a kind that nightbell cannot deliver to: of each group, one must be there; `global.`
    /// looks there. Pairs that exclude each other.
    pub(in crate::alerting) required: &'static [&'static [&'static str]],
    pub(in crate::alerting) exclusive: &'static [(&'static str, &'static str)],
}

/// Every kind of receiver that Alertmanager has.
pub(in crate::alerting) const KINDS: &[Kind] = &[
    Kind {
        key: "discord_configs",
        keys: &[
            "webhook_url",
            "webhook_url_file",
            "content",
            "title",
            "message",
            "username",
            "avatar_url",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "email_configs",
        keys: &[
            "to",
            "from",
            "hello",
            "smarthost",
            "auth_username",
            "auth_password",
            "auth_password_file",
            "auth_secret",
            "auth_secret_file",
            "auth_identity",
            "headers",
            "html",
            "text",
            "require_tls",
            "force_implicit_tls",
            "tls_config",
            "threading",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "incidentio_configs",
        keys: &[
            "url",
            "url_file",
            "alert_source_token",
            "alert_source_token_file",
            "max_alerts",
            "timeout",
            "metadata",
        ],
        required: &[&["url", "url_file"]],
        exclusive: &[
            ("url", "url_file"),
            ("alert_source_token", "alert_source_token_file"),
        ],
    },
    Kind {
        key: "jira_configs",
        keys: &[
            "api_url",
            "api_type",
            "project",
            "summary",
            "description",
            "labels",
            "priority",
            "issue_type",
            "reopen_transition",
            "resolve_transition",
            "wont_fix_resolution",
            "reopen_duration",
            "fields",
        ],
        required: &[
            &["project"],
            &["issue_type"],
            &["api_url", "global.jira_api_url"],
        ],
        exclusive: &[],
    },
    Kind {
        key: "mattermost_configs",
        keys: &[
            "webhook_url",
            "webhook_url_file",
            "channel",
            "username",
            "text",
            "fallback",
            "color",
            "pretext",
            "author_name",
            "author_link",
            "author_icon",
            "title",
            "title_link",
            "fields",
            "thumb_url",
            "footer",
            "footer_icon",
            "image_url",
            "icon_url",
            "icon_emoji",
            "attachments",
            "type",
            "props",
            "priority",
        ],
        required: &[&[
            "webhook_url",
            "webhook_url_file",
            "global.mattermost_webhook_url",
            "global.mattermost_webhook_url_file",
        ]],
        exclusive: &[("webhook_url", "webhook_url_file")],
    },
    Kind {
        key: "msteams_configs",
        keys: &[
            "webhook_url",
            "webhook_url_file",
            "title",
            "summary",
            "text",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "msteamsv2_configs",
        keys: &["webhook_url", "webhook_url_file", "title", "text"],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "opsgenie_configs",
        keys: &[
            "api_key",
            "api_key_file",
            "api_url",
            "message",
            "description",
            "source",
            "details",
            "entity",
            "responders",
            "actions",
            "tags",
            "note",
            "priority",
            "update_alerts",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "pagerduty_configs",
        keys: &[
            "service_key",
            "service_key_file",
            "routing_key",
            "routing_key_file",
            "url",
            "client",
            "client_url",
            "description",
            "details",
            "images",
            "links",
            "source",
            "severity",
            "class",
            "component",
            "group",
            "timeout",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "pushover_configs",
        keys: &[
            "user_key",
            "user_key_file",
            "token",
            "token_file",
            "title",
            "message",
            "url",
            "url_title",
            "device",
            "sound",
            "priority",
            "retry",
            "expire",
            "ttl",
            "html",
            "monospace",
        ],
        required: &[&["user_key", "user_key_file"], &["token", "token_file"]],
        exclusive: &[
            ("user_key", "user_key_file"),
            ("token", "token_file"),
            ("html", "monospace"),
        ],
    },
    Kind {
        key: "rocketchat_configs",
        keys: &[
            "api_url",
            "channel",
            "token",
            "token_file",
            "token_id",
            "token_id_file",
            "color",
            "title",
            "title_link",
            "text",
            "image_url",
            "thumb_url",
            "link_names",
            "fields",
            "short_fields",
            "actions",
            "icon_url",
            "emoji",
        ],
        required: &[
            &[
                "token",
                "token_file",
                "global.rocketchat_token",
                "global.rocketchat_token_file",
            ],
            &[
                "token_id",
                "token_id_file",
                "global.rocketchat_token_id",
                "global.rocketchat_token_id_file",
            ],
        ],
        exclusive: &[("token", "token_file"), ("token_id", "token_id_file")],
    },
    Kind {
        key: "slack_configs",
        keys: &[
            "api_url",
            "api_url_file",
            "app_token",
            "app_token_file",
            "app_url",
            "channel",
            "username",
            "color",
            "title",
            "title_link",
            "pretext",
            "text",
            "message_text",
            "fields",
            "short_fields",
            "footer",
            "fallback",
            "callback_id",
            "icon_emoji",
            "icon_url",
            "image_url",
            "thumb_url",
            "link_names",
            "mrkdwn_in",
            "actions",
            "timeout",
            "update_message",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "sns_configs",
        keys: &[
            "api_url",
            "sigv4",
            "topic_arn",
            "phone_number",
            "target_arn",
            "subject",
            "message",
            "attributes",
        ],
        required: &[&["topic_arn", "phone_number", "target_arn"]],
        exclusive: &[
            ("topic_arn", "phone_number"),
            ("topic_arn", "target_arn"),
            ("phone_number", "target_arn"),
        ],
    },
    Kind {
        key: "telegram_configs",
        keys: &[
            "api_url",
            "bot_token",
            "bot_token_file",
            "chat_id",
            "chat_id_file",
            "message_thread_id",
            "message",
            "disable_notifications",
            "parse_mode",
        ],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "victorops_configs",
        keys: &[
            "api_key",
            "api_key_file",
            "api_url",
            "routing_key",
            "message_type",
            "state_message",
            "entity_display_name",
            "monitoring_tool",
            "custom_fields",
        ],
        required: &[
            &["routing_key"],
            &[
                "api_key",
                "api_key_file",
                "global.victorops_api_key",
                "global.victorops_api_key_file",
            ],
        ],
        exclusive: &[("api_key", "api_key_file")],
    },
    Kind {
        key: "webex_configs",
        keys: &["api_url", "message", "room_id"],
        required: &[&["room_id"], &["http_config.authorization"]],
        exclusive: &[],
    },
    Kind {
        key: "webhook_configs",
        keys: &["url", "url_file", "max_alerts", "timeout", "payload"],
        required: &[],
        exclusive: &[],
    },
    Kind {
        key: "wechat_configs",
        keys: &[
            "api_secret",
            "api_secret_file",
            "corp_id",
            "message",
            "api_url",
            "to_user",
            "to_party",
            "to_tag",
            "agent_id",
            "message_type",
        ],
        required: &[
            &[
                "api_secret",
                "api_secret_file",
                "global.wechat_api_secret",
                "global.wechat_api_secret_file",
            ],
            &["corp_id", "global.wechat_api_corp_id"],
        ],
        exclusive: &[("api_secret", "api_secret_file")],
    },
];

/// Fields of VictorOps's own that `custom_fields` may not set.
pub(in crate::alerting) const VICTOROPS_FIELDS: &[&str] = &[
    "routing_key",
    "message_type",
    "state_message",
    "entity_display_name",
    "monitoring_tool",
    "entity_id",
    "entity_state",
];

/// Pairs of `global` that exclude each other.
pub(in crate::alerting) const GLOBAL_EXCLUSIVE: &[(&str, &str)] = &[
    ("slack_api_url", "slack_api_url_file"),
    ("opsgenie_api_key", "opsgenie_api_key_file"),
    ("victorops_api_key", "victorops_api_key_file"),
    ("smtp_auth_password", "smtp_auth_password_file"),
    ("smtp_auth_secret", "smtp_auth_secret_file"),
    ("rocketchat_token", "rocketchat_token_file"),
    ("rocketchat_token_id", "rocketchat_token_id_file"),
    ("slack_app_token", "slack_app_token_file"),
    ("slack_app_token", "slack_api_url"),
    ("slack_app_token", "slack_api_url_file"),
    ("slack_app_token_file", "slack_api_url"),
    ("slack_app_token_file", "slack_api_url_file"),
    ("telegram_bot_token", "telegram_bot_token_file"),
    ("wechat_api_secret", "wechat_api_secret_file"),
    ("mattermost_webhook_url", "mattermost_webhook_url_file"),
];
/// Keys of `tracing`, of `event_recorder`, and of the `sigv4` of SNS.
pub(in crate::alerting) const TRACING_KEYS: &[&str] = &[
    "client_type",
    "sampling_fraction",
    "endpoint",
    "tls_config",
    "insecure",
    "compression",
    "timeout",
    "headers",
];
pub(in crate::alerting) const RECORDER_KEYS: &[&str] =
    &["file_outputs", "webhook_outputs", "kafka_outputs"];
pub(in crate::alerting) const SIGV4_KEYS: &[&str] = &[
    "region",
    "access_key",
    "secret_key",
    "profile",
    "role_arn",
    "external_id",
    "use_fips_sts_endpoint",
    "service_name",
];
/// Keys whose values are true or false, and whole numbers, wherever they stand: in quotes they are
/// texts, which Go's reader refuses.
pub(in crate::alerting) const FLAGS: &[&str] = &[
    "continue",
    "disable_notifications",
    "enable_http2",
    "enabled",
    "follow_redirects",
    "force_implicit_tls",
    "insecure",
    "insecure_skip_verify",
    "link_names",
    "monospace",
    "persistent_notifications",
    "proxy_from_environment",
    "requested_ack",
    "require_tls",
    "send_resolved",
    "short",
    "short_fields",
    "smtp_force_implicit_tls",
    "smtp_require_tls",
    "update_alerts",
    "update_message",
];
pub(in crate::alerting) const NUMBERS: &[&str] = &["chat_id", "max_alerts", "message_thread_id"];
/// Keys of a receiver whose values are durations as Go writes them: `1.5s`, no days.
pub(in crate::alerting) const GO_DURATIONS: &[&str] = &["expire", "retry", "timeout", "ttl"];
/// Keys of a receiver whose values are URLs, not texts.
pub(in crate::alerting) const URLS: &[(&str, &str)] = &[
    ("", "api_url"),
    ("", "app_url"),
    ("", "webhook_url"),
    ("incidentio_configs", "url"),
    ("pagerduty_configs", "url"),
    ("webhook_configs", "url"),
];
/// What is a list, and what a mapping, in kinds that nightbell cannot deliver to; all else is a
/// single value. The last ones are either.
pub(in crate::alerting) const LISTS: &[(&str, &str)] = &[
    ("jira_configs", "labels"),
    ("mattermost_configs", "attachments"),
    ("mattermost_configs", "fields"),
    ("rocketchat_configs", "actions"),
    ("rocketchat_configs", "fields"),
];
pub(in crate::alerting) const MAPS: &[(&str, &str)] = &[
    ("incidentio_configs", "metadata"),
    ("jira_configs", "fields"),
    ("mattermost_configs", "priority"),
    ("mattermost_configs", "props"),
    ("opsgenie_configs", "details"),
    ("pagerduty_configs", "details"),
    ("sns_configs", "attributes"),
    ("sns_configs", "sigv4"),
    ("victorops_configs", "custom_fields"),
];
pub(in crate::alerting) const TEXTS_OR_MAPS: &[(&str, &str)] =
    &[("jira_configs", "description"), ("jira_configs", "summary")];
/// Keys of the elements of lists, and of mappings, in those kinds.
pub(in crate::alerting) const INNER: &[(&str, &str, &[&str])] = &[
    (
        "mattermost_configs",
        "priority",
        &["priority", "requested_ack", "persistent_notifications"],
    ),
    ("mattermost_configs", "props", &["card"]),
    (
        "rocketchat_configs",
        "actions",
        &["type", "text", "url", "msg"],
    ),
    ("rocketchat_configs", "fields", &["title", "value", "short"]),
    ("sns_configs", "sigv4", SIGV4_KEYS),
];
/// Of these, one must be there with a value in it.
pub(in crate::alerting) const ONE_OF: &[(&str, &str, &str)] = &[
    ("discord_configs", "webhook_url", "webhook_url_file"),
    ("msteams_configs", "webhook_url", "webhook_url_file"),
    ("msteamsv2_configs", "webhook_url", "webhook_url_file"),
    ("webhook_configs", "url", "url_file"),
];
/// Keys under which the file names what it likes.
pub(in crate::alerting) const FREE: &[&str] = &[
    "attributes",
    "claims",
    "custom_fields",
    "details",
    "endpoint_params",
    "fields",
    "headers",
    "labels",
    "match",
    "match_re",
    "metadata",
    "payload",
    "props",
];
/// Who may respond, in Opsgenie's words.
pub(in crate::alerting) const RESPONDERS: &[&str] =
    &["team", "teams", "user", "escalation", "schedule"];

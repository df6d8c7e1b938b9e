//! The table of servers: which paths they have, under which names their versions expose a metric,
//! and what to do where they do not. A new server, or a renamed metric, is a row here.
//!
//! Names are those of the projects' own sources and pages: vLLM `vllm/v1/metrics/loggers.py`,
//! SGLang `docs/references/production_metrics.md`, TGI's page of metrics, TEI `core/src/infer.rs`,
//! llama.cpp `tools/server/README.md`, Triton `docs/user_guide/metrics.md`, Xinference
//! `xinference/core/metrics.py`; LiteLLM's as a running proxy had them.

use crate::model::MetricDesc;

use super::metrics;

/// One kind of server.
#[derive(Debug)]
pub struct Kind {
    /// The value of the key and label `kind`.
    pub name: &'static str,
    /// The path that says whether it serves; `None` where only the page of metrics tells.
    pub health: Option<&'static str>,
    /// The path of its page of metrics; `None` where it has none.
    pub page: Option<&'static str>,
    /// The port of that page where it is another one.
    pub page_port: Option<u16>,
    /// What helps where the page is refused or missing.
    pub hint: &'static str,
    /// A path, and where in its JSON the version is.
    pub version: Option<(&'static str, &'static str)>,
    /// The path of its list of models, where in the JSON the list is, the key of the name.
    pub models: Option<(&'static str, &'static str, &'static str)>,
    /// The path of its loaded models in Ollama's form.
    pub loaded: Option<&'static str>,
    /// Labels that name the model, the first one that a series has.
    pub model_labels: &'static [&'static str],
    /// What its metrics become.
    pub rows: &'static [Row],
}

/// How several series become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Join {
    /// They are added up.
    Sum,
    /// The greatest.
    Max,
    /// The smallest.
    Min,
}

/// The label beside the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extra {
    /// None.
    None,
    /// Always this one.
    Is(&'static str, &'static str),
    /// Ours, with the value of theirs.
    From(&'static str, &'static str),
}

/// One metric of ours, and the names from which it is made.
#[derive(Debug)]
pub struct Row {
    /// What it becomes.
    pub to: &'static MetricDesc,
    /// Names by version, newest first: the first that the page has is taken.
    pub from: &'static [&'static str],
    /// The label beside the model.
    pub extra: Extra,
    /// What a value is multiplied with to get base units.
    pub scale: f64,
    /// How series of the same model become one.
    pub join: Join,
    /// Whether it has no label `model`.
    pub whole: bool,
}

const fn row(to: &'static MetricDesc, from: &'static [&'static str]) -> Row {
    Row {
        to,
        from,
        extra: Extra::None,
        scale: 1.0,
        join: Join::Sum,
        whole: false,
    }
}

impl Row {
    const fn is(mut self, label: &'static str, value: &'static str) -> Self {
        self.extra = Extra::Is(label, value);
        self
    }

    const fn with(mut self, label: &'static str, theirs: &'static str) -> Self {
        self.extra = Extra::From(label, theirs);
        self
    }

    const fn times(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    const fn joined(mut self, join: Join) -> Self {
        self.join = join;
        self
    }

    const fn whole(mut self) -> Self {
        self.whole = true;
        self
    }
}

const MILLI: f64 = 1e-3;
const MICRO: f64 = 1e-6;
const MODEL_NAME: &[&str] = &["model_name", "model"];

const VLLM: Kind = Kind {
    name: "vllm",
    health: Some("/health"),
    page: Some("/metrics"),
    page_port: None,
    hint: "it is off with --disable-log-stats",
    version: Some(("/version", "/version")),
    models: Some(("/v1/models", "/data", "id")),
    loaded: None,
    model_labels: MODEL_NAME,
    rows: &[
        row(&metrics::RUNNING, &["vllm:num_requests_running"]),
        row(&metrics::WAITING, &["vllm:num_requests_waiting"]),
        row(
            &metrics::CACHE,
            &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        )
        .joined(Join::Max),
        row(&metrics::TOKENS, &["vllm:prompt_tokens_total"]).is("type", "input"),
        row(&metrics::TOKENS, &["vllm:generation_tokens_total"]).is("type", "output"),
        row(
            &metrics::CACHED,
            &[
                "vllm:prefix_cache_queries_total",
                "vllm:gpu_prefix_cache_queries_total",
            ],
        )
        .is("result", "queried"),
        row(
            &metrics::CACHED,
            &[
                "vllm:prefix_cache_hits_total",
                "vllm:gpu_prefix_cache_hits_total",
            ],
        )
        .is("result", "hit"),
        row(&metrics::REQUESTS, &["vllm:request_success_total"]).is("outcome", "success"),
        row(&metrics::PREEMPTED, &["vllm:num_preemptions_total"]),
        row(&metrics::DURATION, &["vllm:e2e_request_latency_seconds"]),
        row(&metrics::FIRST_TOKEN, &["vllm:time_to_first_token_seconds"]),
        row(
            &metrics::PER_TOKEN,
            &[
                "vllm:inter_token_latency_seconds",
                "vllm:time_per_output_token_seconds",
            ],
        ),
        row(&metrics::QUEUED, &["vllm:request_queue_time_seconds"]),
    ],
};

const SGLANG: Kind = Kind {
    name: "sglang",
    health: Some("/health"),
    page: Some("/metrics"),
    page_port: None,
    hint: "start it with --enable-metrics",
    version: None,
    models: Some(("/v1/models", "/data", "id")),
    loaded: None,
    model_labels: &["model_name", "name"],
    rows: &[
        row(&metrics::RUNNING, &["sglang:num_running_reqs"]),
        row(
            &metrics::WAITING,
            &["sglang:num_queue_reqs", "sglang:num_waiting_reqs"],
        ),
        row(&metrics::CACHE, &["sglang:token_usage"]).joined(Join::Max),
        row(&metrics::TOKENS, &["sglang:prompt_tokens_total"]).is("type", "input"),
        row(&metrics::TOKENS, &["sglang:generation_tokens_total"]).is("type", "output"),
        row(&metrics::HIT_RATIO, &["sglang:cache_hit_rate"]).joined(Join::Min),
        row(&metrics::CACHED, &["sglang:prompt_tokens_total"]).is("result", "queried"),
        row(&metrics::CACHED, &["sglang:cached_tokens_total"]).is("result", "hit"),
        row(&metrics::REQUESTS, &["sglang:num_requests_total"]).is("outcome", "all"),
        row(&metrics::REQUESTS, &["sglang:num_aborted_requests_total"]).is("outcome", "error"),
        row(&metrics::DURATION, &["sglang:e2e_request_latency_seconds"]),
        row(
            &metrics::FIRST_TOKEN,
            &["sglang:time_to_first_token_seconds"],
        ),
        row(
            &metrics::PER_TOKEN,
            &[
                "sglang:inter_token_latency_seconds",
                "sglang:time_per_output_token_seconds",
            ],
        ),
        row(&metrics::QUEUED, &["sglang:queue_time_seconds"]),
        row(&metrics::RATE, &["sglang:gen_throughput"]),
    ],
};

const TGI: Kind = Kind {
    name: "tgi",
    health: Some("/health"),
    page: Some("/metrics"),
    page_port: None,
    hint: "it may listen on another port: --prometheus-port; set metrics_url",
    version: Some(("/info", "/version")),
    models: None,
    loaded: None,
    model_labels: MODEL_NAME,
    rows: &[
        row(&metrics::RUNNING, &["tgi_batch_current_size"]),
        row(&metrics::WAITING, &["tgi_queue_size"]),
        row(&metrics::TOKENS, &["tgi_request_input_length_sum"]).is("type", "input"),
        row(&metrics::TOKENS, &["tgi_request_generated_tokens_sum"]).is("type", "output"),
        row(&metrics::REQUESTS, &["tgi_request_success"]).is("outcome", "success"),
        row(&metrics::REQUESTS, &["tgi_request_failure"]).is("outcome", "error"),
        row(&metrics::ERRORS, &["tgi_request_failure"]).with("reason", "err"),
        row(&metrics::DURATION, &["tgi_request_duration"]),
        row(
            &metrics::PER_TOKEN,
            &["tgi_request_mean_time_per_token_duration"],
        ),
        row(&metrics::QUEUED, &["tgi_request_queue_duration"]),
    ],
};

const TEI: Kind = Kind {
    name: "tei",
    health: Some("/health"),
    page: Some("/metrics"),
    page_port: None,
    hint: "it may listen on another port: --prometheus-port; set metrics_url",
    version: Some(("/info", "/version")),
    models: None,
    loaded: None,
    model_labels: MODEL_NAME,
    rows: &[
        row(&metrics::WAITING, &["te_queue_size"]),
        row(
            &metrics::TOKENS,
            &["te_request_input_length_sum", "te_embed_input_length_sum"],
        )
        .is("type", "input"),
        row(&metrics::REQUESTS, &["te_request_success"]).is("outcome", "success"),
        row(&metrics::REQUESTS, &["te_request_failure"]).is("outcome", "error"),
        row(&metrics::ERRORS, &["te_request_failure"]).with("reason", "err"),
        row(&metrics::DURATION, &["te_request_duration"]),
        row(
            &metrics::QUEUED,
            &["te_request_queue_duration", "te_embed_queue_duration"],
        ),
    ],
};

const LLAMA_CPP: Kind = Kind {
    name: "llama.cpp",
    health: Some("/health"),
    page: Some("/metrics"),
    page_port: None,
    hint: "start it with --metrics",
    version: None,
    models: Some(("/v1/models", "/data", "id")),
    loaded: None,
    model_labels: MODEL_NAME,
    rows: &[
        row(&metrics::RUNNING, &["llamacpp:requests_processing"]),
        row(&metrics::WAITING, &["llamacpp:requests_deferred"]),
        row(&metrics::CACHE, &["llamacpp:kv_cache_usage_ratio"]).joined(Join::Max),
        row(&metrics::TOKENS, &["llamacpp:prompt_tokens_total"]).is("type", "input"),
        row(&metrics::TOKENS, &["llamacpp:tokens_predicted_total"]).is("type", "output"),
        row(&metrics::BUSY, &["llamacpp:prompt_seconds_total"]).is("phase", "input"),
        row(&metrics::BUSY, &["llamacpp:tokens_predicted_seconds_total"]).is("phase", "output"),
        row(&metrics::RATE, &["llamacpp:predicted_tokens_seconds"]),
    ],
};

const TRITON: Kind = Kind {
    name: "triton",
    health: Some("/v2/health/ready"),
    page: Some("/metrics"),
    page_port: Some(8002),
    hint: "its metrics have a port of their own, 8002: --allow-metrics, --metrics-port; set metrics_url",
    version: Some(("/v2", "/version")),
    models: None,
    loaded: None,
    model_labels: &["model"],
    rows: &[
        row(&metrics::WAITING, &["nv_inference_pending_request_count"]),
        row(&metrics::REQUESTS, &["nv_inference_request_success"]).is("outcome", "success"),
        row(&metrics::REQUESTS, &["nv_inference_request_failure"]).is("outcome", "error"),
        row(&metrics::ERRORS, &["nv_inference_request_failure"]).with("reason", "reason"),
        row(&metrics::BUSY, &["nv_inference_request_duration_us"])
            .is("phase", "request")
            .times(MICRO),
        row(&metrics::BUSY, &["nv_inference_queue_duration_us"])
            .is("phase", "queue")
            .times(MICRO),
        row(&metrics::BUSY, &["nv_inference_compute_infer_duration_us"])
            .is("phase", "output")
            .times(MICRO),
        row(
            &metrics::FIRST_TOKEN,
            &["nv_inference_first_response_histogram_ms"],
        )
        .times(MILLI),
    ],
};

const XINFERENCE: Kind = Kind {
    name: "xinference",
    health: None,
    page: Some("/metrics"),
    page_port: None,
    hint: "calls are counted by its workers: set metrics_url to one's --metrics-exporter-port",
    version: None,
    models: Some(("/v1/models", "/data", "id")),
    loaded: None,
    model_labels: &["model_uid", "model", "model_name"],
    rows: &[
        row(&metrics::RUNNING, &["xinference:model_serve_count"]),
        row(&metrics::TOKENS, &["xinference:input_tokens_total_counter"]).is("type", "input"),
        row(
            &metrics::TOKENS,
            &["xinference:output_tokens_total_counter"],
        )
        .is("type", "output"),
        row(&metrics::REQUESTS, &["xinference:model_request_total"]).is("outcome", "all"),
        row(
            &metrics::REQUESTS,
            &["xinference:model_request_errors_total"],
        )
        .is("outcome", "error"),
        row(
            &metrics::DURATION,
            &["xinference:model_request_duration_seconds"],
        ),
        row(&metrics::RATE, &["xinference:generate_tokens_per_s"]),
        row(
            &metrics::LAST_FIRST_TOKEN,
            &["xinference:time_to_first_token_ms"],
        )
        .times(MILLI)
        .joined(Join::Max),
    ],
};

/// `/health` of a LiteLLM proxy asks every provider for an answer, which costs money: readiness is
/// asked instead.
const LITELLM: Kind = Kind {
    name: "litellm",
    health: Some("/health/readiness"),
    page: Some("/metrics"),
    page_port: None,
    hint: "set api_key, and callbacks: [prometheus] in its configuration",
    version: Some(("/health/readiness", "/litellm_version")),
    models: Some(("/v1/models", "/data", "id")),
    loaded: None,
    model_labels: &[
        "requested_model",
        "model_group",
        "model",
        "litellm_model_name",
    ],
    rows: &[
        row(
            &metrics::REQUESTS,
            &[
                "litellm_proxy_total_requests_metric_total",
                "litellm_requests_metric_total",
            ],
        )
        .is("outcome", "all"),
        row(
            &metrics::REQUESTS,
            &["litellm_proxy_failed_requests_metric_total"],
        )
        .is("outcome", "error"),
        row(
            &metrics::ERRORS,
            &["litellm_proxy_failed_requests_metric_total"],
        )
        .with("reason", "exception_status"),
        row(&metrics::TOKENS, &["litellm_input_tokens_metric_total"]).is("type", "input"),
        row(&metrics::TOKENS, &["litellm_output_tokens_metric_total"]).is("type", "output"),
        row(
            &metrics::DURATION,
            &["litellm_request_total_latency_metric"],
        ),
        row(
            &metrics::FIRST_TOKEN,
            &["litellm_llm_api_time_to_first_token_metric"],
        ),
        row(&metrics::QUEUED, &["litellm_request_queue_time_seconds"]),
        row(&metrics::COST, &["litellm_spend_metric_total"]),
        row(&metrics::DEPLOYMENT, &["litellm_deployment_state"]).joined(Join::Max),
        row(&metrics::COOLED, &["litellm_deployment_cooled_down_total"]),
        row(
            &metrics::BUDGET,
            &["litellm_remaining_api_key_budget_metric"],
        )
        .is("scope", "api_key")
        .joined(Join::Min)
        .whole(),
        row(&metrics::BUDGET, &["litellm_remaining_team_budget_metric"])
            .is("scope", "team")
            .joined(Join::Min)
            .whole(),
        row(
            &metrics::BUDGET,
            &["litellm_provider_remaining_budget_metric"],
        )
        .is("scope", "provider")
        .joined(Join::Min)
        .whole(),
        row(
            &metrics::ALLOWANCE,
            &[
                "litellm_remaining_requests_metric",
                "litellm_remaining_requests",
            ],
        )
        .is("of", "requests")
        .joined(Join::Min),
        row(
            &metrics::ALLOWANCE,
            &[
                "litellm_remaining_tokens_metric",
                "litellm_remaining_tokens",
            ],
        )
        .is("of", "tokens")
        .joined(Join::Min),
    ],
};

/// Releases of Ollama have no page of metrics: what is loaded is asked for.
const OLLAMA: Kind = Kind {
    name: "ollama",
    health: Some("/api/version"),
    page: None,
    page_port: None,
    hint: "",
    version: Some(("/api/version", "/version")),
    models: Some(("/api/tags", "/models", "name")),
    loaded: Some("/api/ps"),
    model_labels: &[],
    rows: &[],
};

/// Every kind there is, by name.
pub const KINDS: [&Kind; 9] = [
    &LITELLM,
    &LLAMA_CPP,
    &OLLAMA,
    &SGLANG,
    &TEI,
    &TGI,
    &TRITON,
    &VLLM,
    &XINFERENCE,
];

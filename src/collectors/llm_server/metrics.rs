//! The metrics of the `llm_server` collector: one set of names for every kind of server.

use crate::model::MetricKind::{Counter, Gauge, Histogram};

const SERVER: &[&str] = &["target", "kind"];
const MODEL: &[&str] = &["target", "kind", "model"];

metrics! {
    UP "llm_server_up" Gauge "" SERVER, "Whether the server answers: its health path, or its metrics where it has none.", "kinds' table: health";
    READY "llm_server_ready" Gauge "" SERVER, "Whether it says that it can serve requests; a server that loads its model is up and not ready.", "status of the health path";
    FAILURE "llm_server_failure_info" Gauge "" &["target", "kind", "url", "message"], "Why it is down, or its metrics cannot be read, and what helps; always 1, absent while all is well.", "status, body and transport";
    INFO "llm_server_info" Gauge "" &["target", "kind", "version"], "The version that the server states; always 1.", "kinds' table: version";
    READABLE "llm_server_metrics_readable" Gauge "" SERVER, "Whether its page of metrics, or its list of loaded models, could be read.", "kinds' table: page";
    FOUND "llm_server_metric_found" Gauge "" &["target", "kind", "metric"], "Whether the page has any of the names under which versions of this server have had the metric: 0 when it was renamed, is off, or nothing was counted yet.", "kinds' table: names";
    OMITTED "llm_server_models_omitted" Gauge "" SERVER, "Models beyond `max_models`, whose series are added up as the model `other`.", "the collector's own bound";
    MODELS "llm_server_models" Gauge "" SERVER, "Models that the server lists.", "kinds' table: models";
    AVAILABLE "llm_server_model_available" Gauge "" MODEL, "Whether a model of the key `models` is on the server's list.", "kinds' table: models";
    RUNNING "llm_server_requests_running" Gauge "" MODEL, "Requests being computed.", "vllm:num_requests_running, sglang:num_running_reqs, tgi_batch_current_size, llamacpp:requests_processing, xinference:model_serve_count";
    WAITING "llm_server_requests_waiting" Gauge "" MODEL, "Requests that wait for a turn.", "vllm:num_requests_waiting, sglang:num_queue_reqs, tgi_queue_size, te_queue_size, llamacpp:requests_deferred, nv_inference_pending_request_count";
    CACHE "llm_server_kv_cache_usage_ratio" Gauge "" MODEL, "Share of the key-value cache in use, 0 to 1; of several engines the fullest.", "vllm:kv_cache_usage_perc, sglang:token_usage, llamacpp:kv_cache_usage_ratio";
    TOKENS "llm_server_tokens_total" Counter "" &["target", "kind", "model", "type"], "Tokens: input, output.", "vllm:prompt_tokens_total and its like";
    CACHED "llm_server_prefix_cache_tokens_total" Counter "" &["target", "kind", "model", "result"], "Prompt tokens looked for in the prefix cache (queried), and found there (hit).", "vllm:prefix_cache_queries_total, vllm:prefix_cache_hits_total, sglang:cached_tokens_total";
    HIT_RATIO "llm_server_prefix_cache_hit_ratio" Gauge "" MODEL, "Share of prompt tokens found in the prefix cache, as servers state it that do not count.", "sglang:cache_hit_rate";
    REQUESTS "llm_server_requests_total" Counter "" &["target", "kind", "model", "outcome"], "Requests that ended: success, error; `all` of servers that count both together.", "vllm:request_success_total, tgi_request_success, litellm_proxy_failed_requests_metric_total and their like";
    ERRORS "llm_server_errors_total" Counter "" &["target", "kind", "model", "reason"], "Requests that failed by the server's word for why.", "tgi_request_failure{err}, litellm_proxy_failed_requests_metric_total{exception_status}, nv_inference_request_failure{reason}";
    PREEMPTED "llm_server_preemptions_total" Counter "" MODEL, "Requests that were put back because the cache was full.", "vllm:num_preemptions_total";
    DURATION "llm_server_request_duration_seconds" Histogram "seconds" MODEL, "Whole requests, with the server's bounds.", "vllm:e2e_request_latency_seconds, tgi_request_duration, litellm_request_total_latency_metric and their like";
    FIRST_TOKEN "llm_server_time_to_first_token_seconds" Histogram "seconds" MODEL, "Request to first token, with the server's bounds.", "vllm:time_to_first_token_seconds, sglang:time_to_first_token_seconds, litellm_llm_api_time_to_first_token_metric";
    PER_TOKEN "llm_server_time_per_output_token_seconds" Histogram "seconds" MODEL, "Time of each token after the first, with the server's bounds.", "vllm:inter_token_latency_seconds, vllm:time_per_output_token_seconds, tgi_request_mean_time_per_token_duration";
    QUEUED "llm_server_queue_duration_seconds" Histogram "seconds" MODEL, "Wait of requests before they are computed, with the server's bounds.", "vllm:request_queue_time_seconds, tgi_request_queue_duration, te_request_queue_duration";
    BUSY "llm_server_busy_seconds_total" Counter "seconds" &["target", "kind", "model", "phase"], "Time added up over requests, for servers that have no histogram: request, queue, input, output.", "nv_inference_*_duration_us, llamacpp:prompt_seconds_total, llamacpp:tokens_predicted_seconds_total";
    RATE "llm_server_output_tokens_per_second" Gauge "" MODEL, "Output tokens a second, as the server states it.", "llamacpp:predicted_tokens_seconds, sglang:gen_throughput, xinference:generate_tokens_per_s";
    LAST_FIRST_TOKEN "llm_server_last_time_to_first_token_seconds" Gauge "seconds" MODEL, "Time to the first token as the server last measured it, for servers that have no histogram.", "xinference:time_to_first_token_ms";
    MEMORY "llm_server_model_memory_bytes" Gauge "bytes" &["target", "kind", "model", "where"], "Memory of a loaded model: total, gpu. Less on the GPU than in total means that a part is computed by the CPU.", "Ollama: /api/ps size, size_vram";
    EXPIRES "llm_server_model_expires_timestamp_seconds" Gauge "seconds" MODEL, "When a loaded model will be unloaded, Unix time.", "Ollama: /api/ps expires_at";
    DEPLOYMENT "llm_server_deployment_state" Gauge "" MODEL, "The worst state among the model's deployments: 0 all well, 1 some fail, 2 out.", "litellm_deployment_state";
    COOLED "llm_server_deployment_cooldowns_total" Counter "" MODEL, "How often a deployment was put aside because it failed.", "litellm_deployment_cooled_down_total";
    COST "llm_server_cost_total" Counter "" MODEL, "Money that the gateway has counted, in US dollars.", "litellm_spend_metric_total";
    BUDGET "llm_server_budget_remaining" Gauge "" &["target", "kind", "scope"], "What is left of the smallest budget, in US dollars: of api keys, of teams, of the provider.", "litellm_remaining_api_key_budget_metric, litellm_remaining_team_budget_metric, litellm_provider_remaining_budget_metric";
    ALLOWANCE "llm_server_ratelimit_remaining" Gauge "" &["target", "kind", "model", "of"], "What is left of the smallest rate limit behind the gateway: requests, tokens.", "litellm_remaining_requests_metric, litellm_remaining_tokens_metric";
}

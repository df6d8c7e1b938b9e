//! What the conventions for generative AI call things, old and new, as tables: OpenTelemetry's
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>), those of OpenLLMetry and OpenLIT, and
//! OpenInference's.

use crate::collectors::gen_ai::Of;

/// What an attribute says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    Provider,
    Model,
    Operation,
    Agent,
    Tool,
    Error,
    Store,
    StoreOperation,
    FirstToken,
    Input,
    Output,
    CacheRead,
    CacheWrite,
    Reasoning,
    TokenType,
}

use Fact::{
    Agent, CacheRead, CacheWrite, Error, FirstToken, Input, Model, Operation, Output, Provider,
    Reasoning, Store, StoreOperation, TokenType, Tool,
};

/// Names of attributes; of several with one meaning the first that is there counts.
pub const ATTRIBUTES: &[(Fact, &str)] = &[
    (Provider, "gen_ai.provider.name"),
    (Provider, "gen_ai.system"),
    (Provider, "llm.provider"),
    (Provider, "llm.system"),
    (Provider, "llm.vendor"),
    (Model, "gen_ai.request.model"),
    (Model, "gen_ai.response.model"),
    (Model, "llm.request.model"),
    (Model, "llm.model_name"),
    (Model, "embedding.model_name"),
    (Operation, "gen_ai.operation.name"),
    (Operation, "llm.request.type"),
    (Operation, "openinference.span.kind"),
    (Operation, "traceloop.span.kind"),
    (Agent, "gen_ai.agent.name"),
    (Agent, "agent.name"),
    (Agent, "gen_ai.workflow.name"),
    (Tool, "gen_ai.tool.name"),
    (Tool, "tool.name"),
    (Error, "error.type"),
    (Error, "exception.type"),
    (Store, "gen_ai.data_source.id"),
    (Store, "db.system.name"),
    (Store, "db.system"),
    (StoreOperation, "db.operation.name"),
    (StoreOperation, "db.operation"),
    (FirstToken, "gen_ai.response.time_to_first_chunk"),
    (FirstToken, "gen_ai.server.time_to_first_token"),
    (Input, "gen_ai.usage.input_tokens"),
    (Input, "gen_ai.usage.prompt_tokens"),
    (Input, "llm.usage.prompt_tokens"),
    (Input, "llm.token_count.prompt"),
    (Output, "gen_ai.usage.output_tokens"),
    (Output, "gen_ai.usage.completion_tokens"),
    (Output, "llm.usage.completion_tokens"),
    (Output, "llm.token_count.completion"),
    (CacheRead, "gen_ai.usage.cache_read.input_tokens"),
    (CacheRead, "gen_ai.usage.cache_read_input_tokens"),
    (CacheRead, "gen_ai.usage.input_tokens.cached"),
    (CacheRead, "llm.token_count.prompt_details.cache_read"),
    (CacheWrite, "gen_ai.usage.cache_creation.input_tokens"),
    (CacheWrite, "gen_ai.usage.cache_creation_input_tokens"),
    (CacheWrite, "llm.token_count.prompt_details.cache_write"),
    (Reasoning, "gen_ai.usage.reasoning.output_tokens"),
    (Reasoning, "gen_ai.usage.reasoning_tokens"),
    (Reasoning, "llm.token_count.completion_details.reasoning"),
    (TokenType, "gen_ai.token.type"),
    (TokenType, "llm.usage.token_type"),
];

/// What an operation is called, in lower case, and which one it is. Steps of a program that are no
/// call are in no row.
pub const OPERATIONS: &[(&str, &str)] = &[
    ("chat", "chat"),
    ("llm", "chat"),
    ("completion", "text_completion"),
    ("text_completion", "text_completion"),
    ("generate_content", "generate_content"),
    ("embedding", "embeddings"),
    ("embeddings", "embeddings"),
    ("rerank", "rerank"),
    ("reranker", "rerank"),
    ("retrieval", "retrieval"),
    ("retriever", "retrieval"),
    ("vectordb", "retrieval"),
    ("tool", "execute_tool"),
    ("execute_tool", "execute_tool"),
    ("agent", "invoke_agent"),
    ("invoke_agent", "invoke_agent"),
    ("create_agent", "create_agent"),
    ("workflow", "invoke_workflow"),
    ("invoke_workflow", "invoke_workflow"),
    ("plan", "plan"),
];

/// Operations that use tokens of their own; those around them repeat the sum.
pub const USES_TOKENS: [&str; 5] = [
    "chat",
    "text_completion",
    "generate_content",
    "embeddings",
    "rerank",
];

/// Stores of vectors, and parts of the names of operations that look something up in them.
pub const STORES: [&str; 12] = [
    "chroma",
    "chromadb",
    "qdrant",
    "milvus",
    "weaviate",
    "pinecone",
    "lancedb",
    "pgvector",
    "faiss",
    "marqo",
    "astra",
    "elasticsearch",
];
pub const LOOKUPS: [&str; 6] = [
    "query",
    "search",
    "retrieve",
    "similarity",
    "recommend",
    "get",
];

/// Names of providers that have more than one, in lower case.
pub const PROVIDERS: &[(&str, &str)] = &[
    ("az.ai.openai", "azure.ai.openai"),
    ("azure", "azure.ai.openai"),
    ("azure_openai", "azure.ai.openai"),
    ("gemini", "gcp.gemini"),
    ("google", "gcp.gemini"),
    ("google_genai", "gcp.gemini"),
    ("gcp.gen_ai", "gcp.gemini"),
    ("vertex_ai", "gcp.vertex_ai"),
    ("vertexai", "gcp.vertex_ai"),
    ("bedrock", "aws.bedrock"),
    ("amazon_bedrock", "aws.bedrock"),
    ("aws", "aws.bedrock"),
    ("mistralai", "mistral_ai"),
    ("mistral", "mistral_ai"),
    ("moonshot", "moonshot_ai"),
    ("qwen", "dashscope"),
    ("tongyi", "dashscope"),
];

/// Events of a span that mark the first part of an answer.
pub const FIRST_TOKEN_EVENTS: [&str; 4] = [
    "gen_ai.content.completion.chunk",
    "llm.content.completion.chunk",
    "First Token Stream Event",
    "gen_ai.first_token",
];

/// What a metric of an application says of its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// How long calls took.
    Duration,
    /// How long until the first token.
    FirstToken,
    /// How long between tokens or chunks.
    Gap,
    /// Tokens by type, as the sum of a histogram or a counter.
    Tokens,
    /// Failed calls.
    Errors,
}

impl Role {
    /// Which observations its histograms hold.
    pub fn observed(self) -> Of {
        match self {
            Role::FirstToken => Of::FirstToken,
            Role::Gap => Of::Gap,
            Role::Duration | Role::Tokens | Role::Errors => Of::Duration,
        }
    }
}

/// Metrics, what they say, and the operation where they name none.
pub const METRICS: &[(&str, Role, &str)] = &[
    ("gen_ai.client.operation.duration", Role::Duration, "chat"),
    (
        "gen_ai.client.operation.time_to_first_chunk",
        Role::FirstToken,
        "chat",
    ),
    (
        "gen_ai.client.operation.time_per_output_chunk",
        Role::Gap,
        "chat",
    ),
    (
        "gen_ai.server.time_to_first_token",
        Role::FirstToken,
        "chat",
    ),
    ("gen_ai.server.time_per_output_token", Role::Gap, "chat"),
    ("gen_ai.client.token.usage", Role::Tokens, "chat"),
    (
        "llm.openai.chat_completions.exceptions",
        Role::Errors,
        "chat",
    ),
    ("llm.anthropic.completion.exceptions", Role::Errors, "chat"),
    (
        "gen_ai.execute_tool.duration",
        Role::Duration,
        "execute_tool",
    ),
    (
        "gen_ai.invoke_agent.duration",
        Role::Duration,
        "invoke_agent",
    ),
    (
        "gen_ai.workflow.duration",
        Role::Duration,
        "invoke_workflow",
    ),
    (
        "gen_ai.vectordb.operation.duration",
        Role::Duration,
        "retrieval",
    ),
    ("db.client.query.duration", Role::Duration, "retrieval"),
];

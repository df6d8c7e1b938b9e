#!/usr/bin/env python3
"""Calls models by the providers' own libraries, and sends telemetry by OpenTelemetry's own SDK. The tests run it; what it prints they read.

usage: call_models.py openai BASE_URL KEY | anthropic BASE_URL | telemetry ENDPOINT
"""
import json
import sys


def openai(base_url, key):
    import openai as library

    client = library.OpenAI(base_url=base_url, api_key=key, max_retries=0, default_headers={"X-App": "shop"})
    asked = [{"role": "user", "content": "hello"}]
    stream = client.chat.completions.create(
        model="mock-fast", messages=asked, stream=True, stream_options={"include_usage": True})
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    whole = client.chat.completions.create(model="mock-fast", messages=asked)
    try:
        client.chat.completions.create(model="mock-limited", messages=asked)
        limited = None
    except library.RateLimitError as error:
        limited = error.status_code
    return {
        "text": text, "whole": whole.choices[0].message.content, "limited": limited,
        "input": usage.prompt_tokens + whole.usage.prompt_tokens,
        "output": usage.completion_tokens + whole.usage.completion_tokens,
    }


def anthropic(base_url):
    import anthropic as library

    client = library.Anthropic(base_url=base_url, api_key="sk-ant-x", max_retries=0, default_headers={"X-App": "shop"})
    with client.messages.stream(
            model="claude-x", max_tokens=64, messages=[{"role": "user", "content": "hello"}]) as stream:
        text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
    return {"text": text, "input": usage.input_tokens, "output": usage.output_tokens}


def telemetry(endpoint):
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "shop", "service.instance.id": "one"})
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"), export_interval_millis=60_000)
    meters = MeterProvider(metric_readers=[reader], resource=resource)
    meter = meters.get_meter("shop")
    meter.create_counter("app.orders", unit="{order}").add(3, {"kind": "book"})
    meter.create_histogram("app.wait", unit="s").record(0.25)
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
    tracer = traces.get_tracer("shop")
    with tracer.start_as_current_span("chat gpt-4o") as span:
        for key, value in {
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o", "gen_ai.usage.input_tokens": 70, "gen_ai.usage.output_tokens": 7,
                "gen_ai.input.messages": "a prompt that nobody may see"}.items():
            span.set_attribute(key, value)
    # A flush and the end send the same points twice.
    flushed = meters.force_flush() and traces.force_flush()
    meters.shutdown()
    traces.shutdown()
    return {"flushed": flushed}


if __name__ == "__main__":
    print(json.dumps({"openai": openai, "anthropic": anthropic, "telemetry": telemetry}[sys.argv[1]](*sys.argv[2:])))

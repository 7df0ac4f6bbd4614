"""Traces of calls, as a collector gets them: OTLP over HTTP, decoded with OpenTelemetry's own messages."""

import json
import re
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from conftest import deploy_files, invoke, session_id, signed
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PLAIN = (Path(__file__).parent / "agents/plain/main.py").read_text()
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
STEPS = ["queue", "prepare", "sandbox", "process", "healthy", "first_byte"]


class Collector:
    """Takes spans, or hangs."""

    def __init__(self):
        self.spans, self.resources, self.headers, self.hangs = [], [], [], threading.Event()
        self.release = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                if collector.hangs.is_set():
                    collector.release.wait(60)
                collector.headers.append((self.path, dict(self.headers)))
                for resource in request.resource_spans:
                    collector.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, calls, timeout=20):
        """The spans of so many calls, once they have come."""
        deadline = time.monotonic() + timeout
        while sum(span.kind == Span.SPAN_KIND_SERVER for span in self.spans) < calls:
            assert time.monotonic() < deadline, f"only {[span.name for span in self.spans]}"
            time.sleep(0.05)
        return self.spans

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def attributes(span):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def below(spans, parent):
    return [span for span in spans if span.parent_span_id == parent.span_id]


def dropped(server, reason):
    with urllib.request.urlopen(f"{server.url}/_eyot/metrics", timeout=10) as reply:
        found = re.search(rf'eyot_trace_spans_dropped_total{{reason="{reason}"}} (\d+)', reply.read().decode())
    return int(found.group(1)) if found else 0


def told(data, arn, session, **kwargs):
    """The trace headers that the agent gets."""
    headers = invoke(data, arn, {"act": "raw"}, session, **kwargs)[0]["headers"]
    return {name: headers[name] for name in ("traceparent", "tracestate", "baggage") if name in headers}


def test_a_cold_start_is_one_trace_with_every_step(make_server, tmp_path, collector):
    server = make_server(env={
        "EYOT__TRACES__ENDPOINT": collector.url, "EYOT__TRACES__SERVICE_NAME": "agents", "EYOT__TRACES__HEADERS__AUTHORIZATION": "Bearer key",
        "EYOT__RUNTIME__SESSION__WARM__MAX": "0",
        # What nobody set for the server is not obeyed.
        "OTEL_EXPORTER_OTLP_HEADERS": "x-implicit=1", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_TRACES_SAMPLER": "always_off",
    }).start()
    arn = deploy_files(server, tmp_path, "traced", {"main.py": PLAIN})
    session = session_id()
    before = time.time_ns()
    headers = told(server.data, arn, session, traceParent=SAMPLED, traceState="vendor=1", baggage="tenant=7")
    after = time.time_ns()
    spans = collector.wait_for(1)

    (root,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert root.name == "InvokeAgentRuntime"
    assert all(span.trace_id.hex() == TRACE for span in spans)
    assert root.parent_span_id.hex() == PARENT and root.trace_state == "vendor=1"
    assert headers == {"traceparent": f"00-{TRACE}-{root.span_id.hex()}-01", "tracestate": "vendor=1", "baggage": "tenant=7"}
    seen = attributes(root)
    assert seen["aws.resource.arn"] == arn and seen["session.id"] == session
    assert seen["aws.endpoint.name"] == "DEFAULT" and seen["eyot.runtime.version"] == "1"
    assert seen["http.response.status_code"] == 200 and seen["rpc.method"] == "InvokeAgentRuntime"
    assert re.fullmatch(r"[0-9a-f-]{36}", seen["aws.request_id"]) and "error.type" not in seen

    (start,) = below(spans, root)
    assert start.name == "session start" and attributes(start)["eyot.session.warm"] is False
    steps = below(spans, start)
    assert [step.name for step in steps] == STEPS
    assert len(spans) == 2 + len(STEPS)
    # In wall time, one inside the other, and one after the other.
    assert before <= root.start_time_unix_nano <= start.start_time_unix_nano
    assert start.end_time_unix_nano <= root.end_time_unix_nano <= after + 10**9
    for earlier, later in zip(steps, steps[1:]):
        assert earlier.start_time_unix_nano <= earlier.end_time_unix_nano <= later.start_time_unix_nano
    assert steps[-1].end_time_unix_nano == start.end_time_unix_nano
    # The same as the session's record says.
    recorded = signed(server, "GET", f"/_eyot/sessions/{session}")["start"]
    for step in steps[:-1]:
        took = (step.end_time_unix_nano - step.start_time_unix_nano) / 1e6
        assert took == pytest.approx(recorded[f"{step.name}Ms"], abs=0.002), step.name
    took = (start.end_time_unix_nano - start.start_time_unix_nano) / 1e6
    assert took == pytest.approx(recorded["firstByteMs"], abs=0.002)

    path, sent = collector.headers[0]
    assert path == "/v1/traces" and sent["authorization"] == "Bearer key" and "x-implicit" not in sent
    assert sent["content-type"] == "application/x-protobuf" and "content-encoding" not in sent
    assert collector.resources[0]["service.name"] == "agents"


def test_a_warm_start_has_the_steps_that_it_needs(make_server, tmp_path, collector):
    server = make_server(env={
        "EYOT__TRACES__ENDPOINT": collector.url, "EYOT__RUNTIME__SESSION__WARM__MIN": "1", "EYOT__RUNTIME__SESSION__WARM__MAX": "1",
    }).start()
    arn = deploy_files(server, tmp_path, "traced", {"main.py": PLAIN})  # serves when its warm sandbox is ready
    data, session = server.data, session_id()
    for _ in range(2):
        invoke(data, arn, {}, session)
    spans = collector.wait_for(2)
    first, second = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    (start,) = below(spans, first)
    assert attributes(start)["eyot.session.warm"] is True
    assert [step.name for step in below(spans, start)] == ["queue", "first_byte"]
    assert below(spans, second) == [], "only the call that started the session has its start"


def test_callers_decide_and_of_the_others_a_share_is_traced(make_server, tmp_path, collector):
    server = make_server(env={"EYOT__TRACES__ENDPOINT": collector.url, "EYOT__TRACES__SAMPLE_RATIO": "0"}).start()
    arn = deploy_files(server, tmp_path, "traced", {"main.py": PLAIN})
    data, session = server.data, session_id()
    assert told(data, arn, session) == {}
    assert told(data, arn, session, traceParent=UNSAMPLED) == {"traceparent": UNSAMPLED}
    # What is no trace is passed on as it is, too, unless the call is traced for another reason.
    assert told(data, arn, session, traceParent="00-a-b-01") == {"traceparent": "00-a-b-01"}
    with pytest.raises(ClientError):
        invoke(data, arn, {"act": "status", "status": 500}, session, traceParent=SAMPLED)
    assert server.stop() == 0
    (failed,) = collector.wait_for(1)
    assert attributes(failed)["http.response.status_code"] == 424
    assert attributes(failed)["error.type"] == "RuntimeClientError"
    assert failed.status.code == Status.STATUS_CODE_ERROR and "the agent says so" not in failed.status.message


def test_a_call_without_a_trace_gets_one_with_its_request_id(make_server, tmp_path, collector):
    server = make_server(env={"EYOT__TRACES__ENDPOINT": collector.url}).start()
    arn = deploy_files(server, tmp_path, "traced", {"main.py": PLAIN})
    reply = server.data.invoke_agent_runtime(agentRuntimeArn=arn, payload=json.dumps({"act": "raw"}).encode())
    headers = json.loads(reply["response"].read())["headers"]
    (root,) = [span for span in collector.wait_for(1) if span.kind == Span.SPAN_KIND_SERVER]
    request = reply["ResponseMetadata"]["RequestId"].replace("-", "")
    assert root.trace_id.hex() == request and root.parent_span_id == b""
    assert headers["traceparent"] == f"00-{request}-{root.span_id.hex()}-01"


def test_without_a_collector_headers_pass_untouched(make_server, tmp_path):
    server = make_server().start()
    arn = deploy_files(server, tmp_path, "plain", {"main.py": PLAIN})
    assert told(server.data, arn, session_id(), traceParent=SAMPLED) == {"traceparent": SAMPLED}
    assert told(server.data, arn, session_id()) == {}


def test_a_collector_that_is_down_costs_traces_only(make_server, tmp_path, collector):
    collector.close()
    server = make_server(env={"EYOT__TRACES__ENDPOINT": collector.url, "EYOT__TRACES__TIMEOUT": "500ms"}).start()
    arn = deploy_files(server, tmp_path, "traced", {"main.py": PLAIN})
    data, session = server.data, session_id()
    for wanted in (8, 9, 10):
        invoke(data, arn, {}, session)
        deadline = time.monotonic() + 20
        while dropped(server, "undeliverable") < wanted:
            assert time.monotonic() < deadline, dropped(server, "undeliverable")
            time.sleep(0.05)
    assert server.stop() == 0
    assert server.stderr_text().count("traces do not reach the collector") == 1, "said once a minute at most"


def test_a_collector_that_hangs_slows_no_call_and_no_stop(make_server, tmp_path, collector):
    collector.hangs.set()
    server = make_server(env={"EYOT__TRACES__ENDPOINT": collector.url}).start()
    arn = deploy_files(server, tmp_path, "traced", {"main.py": PLAIN})
    data, session = server.data, session_id()
    invoke(data, arn, {}, session)
    time.sleep(1.5)  # the first batch is under way
    began = time.monotonic()
    for _ in range(200):
        invoke(data, arn, {}, session)
    assert time.monotonic() - began < 20, "calls of some milliseconds each"
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 15

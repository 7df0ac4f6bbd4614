//! Operations of AWS's runtime that its published models do not list, because no AWS SDK calls them: they are WebSockets.
//! Their names are those of the actions that policies know (`AgentCore docs: websocket, command-shell`).

use api::{Operation, Plane};

/// All of them.
pub(crate) static UNMODELLED: [Operation; 2] = [
    socket(
        "InvokeAgentRuntimeWithWebSocketStream",
        "/runtimes/{agentRuntimeArn}/ws",
    ),
    socket(
        "InvokeAgentRuntimeCommandShell",
        "/runtimes/{agentRuntimeArn}/ws/shells",
    ),
];

const fn socket(name: &'static str, uri: &'static str) -> Operation {
    Operation {
        name,
        plane: Plane::Data,
        method: "GET",
        uri,
        status: 101,
        input: None,
        output: None,
        errors: &[],
        payload: None,
    }
}

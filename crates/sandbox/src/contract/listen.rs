//! What a sandbox reaches of its server, and who else does not.

use super::bench::{Bench, EPOCH, PORT, Which, listening, run};
use crate::{Error, Listen, Sandbox, Spec};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

const NO_GRACE: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(5);
/// The well-known one of cloud metadata, and one beside it.
const FIRST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
const SECOND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 171, 1), 80);

/// Python: `call(variable, text)` sends a text to where a variable says and gives what comes back.
const CALL: &str = "
import os, socket
def call(variable, text):
    host, _, port = os.environ[variable].removeprefix('http://').partition(':')
    with socket.create_connection((host, int(port or 80)), 20) as s:
        s.sendall(text.encode()); s.shutdown(socket.SHUT_WR)
        return s.makefile().read()
";

fn spec(bench: &Bench) -> Spec {
    let mut spec = bench.agent();
    spec.listen = vec![
        Listen {
            address: FIRST,
            variables: vec!["ONE".into(), "ALSO_ONE".into()],
        },
        Listen {
            address: SECOND,
            variables: vec!["TWO".into(), "TAKEN".into()],
        },
    ];
    spec.env.push(("TAKEN".into(), "by the owner".into()));
    spec
}

/// Answers one connection with a name and what it was sent.
async fn answer(listener: &TcpListener, name: &str) {
    let (mut stream, _) = timeout(PATIENCE, listener.accept())
        .await
        .expect("nobody came")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    stream.write_all(format!("{name} got {text}").as_bytes()).await.unwrap();
}

/// Lets the agent call and answers it.
async fn exchange(sandbox: &dyn Sandbox, variable: &str, listener: &TcpListener, name: &str) -> String {
    let code = format!("{CALL}\nr = call('{variable}', 'hello')");
    let (said, ()) = tokio::join!(run(sandbox, &code), answer(listener, name));
    said.unwrap().as_str().unwrap().to_owned()
}

pub(super) async fn a_sandbox_reaches_its_server(bench: &Bench) {
    let sandbox = bench.listening(spec(bench)).await;
    let one = sandbox.listener(FIRST).await.unwrap();
    let two = sandbox.listener(SECOND).await.unwrap();
    for (variable, listener, name) in [
        ("ONE", &one, "first"),
        ("ALSO_ONE", &one, "first"),
        ("TWO", &two, "second"),
    ] {
        assert_eq!(
            exchange(&*sandbox, variable, listener, name).await,
            format!("{name} got hello")
        );
    }
    let variables = run(&*sandbox, "import os; r = [os.environ['ONE'], os.environ['TAKEN']]")
        .await
        .unwrap();
    assert_eq!(variables[1], "by the owner");
    match bench.which {
        Which::Container => assert_eq!(variables[0], "http://169.254.169.254"),
        Which::Process => {
            let port = variables[0]
                .as_str()
                .unwrap()
                .strip_prefix("http://127.0.0.1:")
                .unwrap();
            // Of the range that sandboxes get their ports from.
            assert!((20_000..32_000).contains(&port.parse().unwrap()), "{port}");
        }
    }
    // They are none of the agent's own ports.
    assert_eq!(sandbox.ports().await.unwrap(), [PORT]);
    assert!(matches!(
        sandbox.listener(SocketAddrV4::new(*FIRST.ip(), 81)).await,
        Err(Error::Refused(81))
    ));
    sandbox.stop(NO_GRACE).await.unwrap();
    assert!(matches!(sandbox.listener(FIRST).await, Err(Error::Gone)));
    // One that was started without has none.
    let sandbox = bench.listening(bench.agent()).await;
    assert!(matches!(sandbox.listener(FIRST).await, Err(Error::Refused(80))));
    sandbox.stop(NO_GRACE).await.unwrap();
    let mut spec = bench.agent();
    spec.listen = vec![
        Listen {
            address: FIRST,
            variables: Vec::new(),
        };
        9
    ];
    assert!(matches!(bench.driver.start(spec).await, Err(Error::Host(_))));
}

pub(super) async fn who_calls_between_two_servers_waits(bench: &Bench) {
    let sandbox = bench.listening(spec(bench)).await;
    let id = sandbox.id().clone();
    let before = sandbox.listener(FIRST).await.unwrap();
    assert_eq!(exchange(&*sandbox, "ONE", &before, "first").await, "first got hello");
    // A call in the background, for which nobody is there.
    let waits = format!(
        "{CALL}\nimport builtins, threading\nbuiltins.said = None\n\
         def wait(): builtins.said = call('ONE', 'waiting')\nthreading.Thread(target=wait, daemon=True).start()"
    );
    drop(before);
    run(&*sandbox, &waits).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(sandbox);
    let next = bench.successor(EPOCH + 1);
    let sandbox = next.adopt(&id).await.unwrap();
    listening(&*sandbox).await;
    let after = sandbox.listener(FIRST).await.unwrap();
    answer(&after, "next").await;
    let came = async {
        loop {
            let said = run(&*sandbox, "r = said").await.unwrap();
            if let Some(said) = said.as_str() {
                return said.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(timeout(PATIENCE, came).await.unwrap(), "next got waiting");
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn two_sandboxes_reach_their_own(bench: &Bench) {
    let [a, b] = [bench.listening(spec(bench)).await, bench.listening(spec(bench)).await];
    let [of_a, of_b] = [a.listener(FIRST).await.unwrap(), b.listener(FIRST).await.unwrap()];
    assert_eq!(exchange(&*a, "ONE", &of_a, "a").await, "a got hello");
    assert_eq!(exchange(&*b, "ONE", &of_b, "b").await, "b got hello");
    a.stop(NO_GRACE).await.unwrap();
    assert_eq!(exchange(&*b, "ONE", &of_b, "b").await, "b got hello");
    b.stop(NO_GRACE).await.unwrap();
}

/// Only behind walls: without them the host's loopback is everyone's.
pub(super) async fn nobody_else_has_the_address(bench: &Bench) {
    let sandbox = bench.listening(spec(bench)).await;
    let listener = sandbox.listener(FIRST).await.unwrap();
    // The host has got none of the addresses.
    for address in [FIRST, SECOND] {
        let error = std::net::TcpListener::bind((*address.ip(), 0)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
    }
    // The agent cannot take them, and its network has grown by these two addresses only.
    let attempts = "
import errno, socket
r = []
for address in [('169.254.169.254', 80), ('0.0.0.0', 80), ('169.254.171.1', 80)]:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try: s.bind(address); s.listen(); r.append('taken')
    except OSError as error: r.append(errno.errorcode[error.errno])
for host in ['169.254.169.253', '169.254.0.1', '192.0.2.1']:
    try: socket.create_connection((host, 80), 2); r.append('connected')
    except OSError as error: r.append(errno.errorcode[error.errno])
";
    let found = run(&*sandbox, attempts).await.unwrap();
    let found: Vec<String> = serde_json::from_value(found).unwrap();
    assert!(
        found[..3].iter().all(|name| name == "EACCES" || name == "EADDRINUSE"),
        "{found:?}"
    );
    assert!(found[3..].iter().all(|name| name == "ENETUNREACH"), "{found:?}");
    assert_eq!(exchange(&*sandbox, "ONE", &listener, "still").await, "still got hello");
    sandbox.stop(NO_GRACE).await.unwrap();
    // Nor is it started with the sockets themselves: three standard files and the one that reads.
    let mut spec = bench.python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))");
    spec.listen = self::spec(bench).listen;
    let (sandbox, _) = bench.ended(spec).await;
    assert_eq!(sandbox.log_tail(100).await.unwrap(), "[0, 1, 2, 3]\n");
    sandbox.stop(NO_GRACE).await.unwrap();
}

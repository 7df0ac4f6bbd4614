//! What an agent in a container finds when it tries the walls.

use super::bench::{Bench, PORT, exited, limits_wanted, run};
use super::cases::{guest_pid, wait_for_log};
use crate::{Exit, Sandbox, State};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

const NO_GRACE: Duration = Duration::ZERO;

/// Python that calls the kernel directly; `call(number, ...)` gives the name of the error, or None.
const CALL: &str = "
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) != -1: return None
    return errno.errorcode[ctypes.get_errno()]
";

pub(super) async fn the_kernel_says_that_every_wall_stands(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    let status = run(&*sandbox, "r = open('/proc/self/status').read()").await.unwrap();
    let status = status.as_str().unwrap();
    let field = |key: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .unwrap();
        line.trim().to_owned()
    };
    for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(key), "0000000000000000", "{key}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field("Gid"), "1000\t1000\t1000\t1000");
    if crate::sys::is_root() {
        assert_eq!(field("Groups"), "");
    }
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let inside = run(
            &*sandbox,
            &format!("import os; r = os.readlink('/proc/self/ns/{namespace}')"),
        )
        .await
        .unwrap();
        let here = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_ne!(inside.as_str().unwrap(), here.to_str().unwrap(), "{namespace}");
    }
    // The guest has given up what it does not need, too.
    let guest = fs::read_to_string(format!("/proc/{}/status", guest_pid(bench, sandbox.id()))).unwrap();
    let kept = if crate::sys::is_root() {
        "CapEff:\t0000000000000020"
    } else {
        "CapEff:\t0000000000000000"
    };
    for line in [kept, "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(guest.contains(line), "{line}: {guest}");
    }
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn nothing_of_the_host_is_seen(bench: &Bench) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sandbox = bench.listening(bench.agent()).await;
    let see = |code: &'static str| {
        let sandbox = &sandbox;
        async move { run(&**sandbox, code).await }
    };
    let pids = see("import os; r = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())")
        .await
        .unwrap();
    assert_eq!(pids.as_array().unwrap().len(), 2, "{pids}");
    assert_eq!(
        see("import os; r = open('/proc/1/comm').read()").await.unwrap(),
        "eyot-guest\n"
    );
    let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 2)");
    assert!(
        run(&*sandbox, &connect)
            .await
            .unwrap_err()
            .contains("ConnectionRefused")
    );
    let interfaces = see("import socket; r = [name for _, name in socket.if_nameindex()]")
        .await
        .unwrap();
    assert_eq!(interfaces, json!(["lo"]));
    let outside = see("import socket; socket.create_connection(('192.0.2.1', 80), 2)")
        .await
        .unwrap_err();
    assert!(outside.contains("unreachable"), "{outside}");
    assert_eq!(
        see("import socket; r = socket.gethostname()").await.unwrap(),
        "localhost"
    );
    assert_eq!(see("import os; r = os.getcwd()").await.unwrap(), "/var/task");
    assert_eq!(see("import os; r = os.path.exists('/.dockerenv')").await.unwrap(), true);
    let root = see("import os; r = sorted(os.listdir('/'))").await.unwrap();
    let root: BTreeSet<String> = serde_json::from_value(root).unwrap();
    assert!(
        !root.contains(".scratch") && !root.contains(".lower") && root.contains("usr"),
        "{root:?}"
    );
    assert_eq!(see("import os; r = os.listdir('/sys')").await.unwrap(), json!([]));
    for secret in ["/etc/shadow", "/etc/ssh", "/root/.ssh", "/proc/kcore", "/proc/keys"] {
        let read =
            format!("import os; r = os.listdir('{secret}') if os.path.isdir('{secret}') else open('{secret}').read()");
        match run(&*sandbox, &read).await {
            Ok(found) => assert!(found == "" || found == json!([]), "{secret}: {found}"),
            Err(error) => assert!(
                error.contains("NotFound") || error.contains("Permission"),
                "{secret}: {error}"
            ),
        }
    }
    for guarded in [
        "os.readlink('/proc/1/exe')",
        "open('/proc/1/environ').read()",
        "os.listdir('/proc/1/fd')",
        "open('/proc/1/mem','rb').read(1)",
    ] {
        let error = run(&*sandbox, &format!("import os; r = {guarded}")).await.unwrap_err();
        assert!(error.contains("Permission"), "{guarded}: {error}");
    }
    // Standard files, the listener, this connection, and the directory that is being listed.
    let files = see(
        "import os; r = {f: os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)}",
    );
    let files: std::collections::BTreeMap<String, String> = serde_json::from_value(files.await.unwrap()).unwrap();
    assert_eq!(files["0"], "/dev/null");
    for (number, file) in &files {
        let own = file == "/dev/null" || file.starts_with("pipe:") || file.starts_with("socket:");
        assert!(own || file.starts_with("/proc/"), "{number} -> {file}");
    }
    let mounts = see("r = open('/proc/self/mountinfo').read()").await.unwrap();
    assert!(
        !mounts.as_str().unwrap().contains(bench.state_dir().to_str().unwrap()),
        "{mounts}"
    );
    sandbox.stop(NO_GRACE).await.unwrap();
    drop(listener);
}

pub(super) async fn only_private_places_are_writable(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    let python = super::bench::python();
    let mut refused = vec![
        "/".to_owned(),
        "/usr".into(),
        "/etc".into(),
        "/dev".into(),
        "/proc".into(),
        "/proc/sys/kernel".into(),
        "/sys".into(),
        "/opt".into(),
        "/var".into(),
    ];
    refused.extend(python.read_only.iter().map(|path| path.to_str().unwrap().to_owned()));
    for place in refused {
        let error = run(&*sandbox, &format!("open('{place}/x', 'w')")).await.unwrap_err();
        assert!(
            ["Read-only", "Permission", "No such file"]
                .iter()
                .any(|word| error.contains(word)),
            "{place}: {error}"
        );
    }
    for place in ["/var/task", "/tmp", "/var/tmp", "/home/agent", "/dev/shm"] {
        run(&*sandbox, &format!("open('{place}/x', 'w').write('x')"))
            .await
            .unwrap();
    }
    // Changing a packed file, and one in a packed directory, works on the private layer.
    run(&*sandbox, "open('/var/task/data.txt', 'a').write('!')")
        .await
        .unwrap();
    assert_eq!(
        fs::read_to_string(bench.package().join("data.txt")).unwrap(),
        "as packed"
    );
    // The layer has its size.
    let fill = "
f = open('/tmp/big', 'wb')
try:
    for _ in range(200): f.write(bytes(1 << 20)); f.flush()
except OSError as e: r = e.strerror
";
    assert_eq!(run(&*sandbox, fill).await.unwrap(), "No space left on device");
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn dangerous_calls_are_refused(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    let attempts = "
new = {'x86_64': dict(mount=165, ptrace=101, unshare=272, setns=308, bpf=321, perf_event_open=298, keyctl=250,
    io_uring_setup=425, userfaultfd=323, open_by_handle_at=304, kexec_load=246, init_module=175, chroot=161,
    pivot_root=155, process_vm_readv=310, reboot=169),
  'aarch64': dict(mount=40, ptrace=117, unshare=97, setns=268, bpf=280, perf_event_open=241, keyctl=219,
    io_uring_setup=425, userfaultfd=282, open_by_handle_at=265, kexec_load=104, init_module=105, chroot=51,
    pivot_root=41, process_vm_readv=270, reboot=142)}[platform.machine()]
r = {name: call(number, 0, 0, 0, 0, 0, 0) for name, number in new.items()}
r['clone3'] = call(435, 0, 0)
clone = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
r['clone(CLONE_NEWUSER)'] = call(clone, 0x10000000 | 17, 0, 0, 0, 0)
r['socket(AF_PACKET)'] = call({'x86_64': 41, 'aarch64': 198}[platform.machine()], 17, 3, 0)
r['setuid(0)'] = call({'x86_64': 105, 'aarch64': 146}[platform.machine()], 0)
r['unknown'] = call(9999)
";
    let found = run(&*sandbox, &format!("{CALL}{attempts}")).await.unwrap();
    for (name, error) in found.as_object().unwrap() {
        let wanted = match name.as_str() {
            "clone3" | "unknown" => ["ENOSYS"].as_slice(),
            "setuid(0)" => &["EPERM", "EINVAL"],
            _ => &["EPERM"],
        };
        assert!(wanted.contains(&error.as_str().unwrap_or("allowed")), "{name}: {error}");
    }
    // Ordinary things go on.
    let ordinary = "
import subprocess, threading, multiprocessing.shared_memory as m, tempfile, pty, os
subprocess.run(['/bin/sh', '-c', 'exit 7']).returncode == 7 or 1/0
t = threading.Thread(target=lambda: None); t.start(); t.join()
s = m.SharedMemory(create=True, size=10); s.close(); s.unlink()
tempfile.TemporaryFile().close()
a, b = pty.openpty(); os.close(a); os.close(b)
open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(8)
import socket, ssl; ssl.create_default_context(); r = socket.getaddrinfo('localhost', 80)[0][4][0]
";
    assert!(["127.0.0.1", "::1"].contains(&run(&*sandbox, ordinary).await.unwrap().as_str().unwrap()));
    // The guest cannot be harmed from inside.
    let kill = "
import os, signal, time
for s in (signal.SIGKILL, signal.SIGSTOP, signal.SIGUSR1, signal.SIGHUP):
    try: os.kill(1, s)
    except PermissionError: pass
time.sleep(0.05); r = open('/proc/1/comm').read()
";
    assert_eq!(run(&*sandbox, kill).await.unwrap(), "eyot-guest\n");
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn limits_hold(bench: &Bench) {
    let probe = bench.driver.probe().await.unwrap();
    let stands = |what: &str| probe.walls.iter().any(|wall| wall.starts_with(what));
    if let Some(version) = limits_wanted() {
        for name in ["memory limit", "process limit", "CPU limit"] {
            let wall = format!("{name} ({version})");
            assert!(probe.walls.contains(&wall), "no {wall}: {probe:?}");
        }
    }
    // Processes are limited with or without control groups.
    let bomb = "
import os, time
n = 0
while True:
    try:
        if os.fork() == 0: time.sleep(1000)
        n += 1
    except (BlockingIOError, OSError) as e:
        print('stopped at', n, type(e).__name__, flush=True); break
time.sleep(1000)
";
    let sandbox = bench.driver.start(bench.python(bomb)).await.unwrap();
    wait_for_log(&*sandbox, "stopped at").await;
    let log = sandbox.log_tail(1000).await.unwrap();
    let count: u32 = log.split_ascii_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((30..=64).contains(&count), "{log}");
    sandbox.stop(NO_GRACE).await.unwrap();
    if !stands("memory limit") {
        println!("skipped: the memory limit: {:?}", probe.warnings);
        return;
    }
    let hog = "
blocks = []
while True: blocks.append(bytearray(8 << 20))
";
    let (sandbox, exit) = bench.ended(bench.python(hog)).await;
    assert_eq!(
        exit,
        Exit {
            code: None,
            signal: Some(9),
            out_of_memory: true
        }
    );
    assert_eq!(*sandbox.state().borrow(), State::Exited(exit.clone()));
    assert_eq!(sandbox.stop(NO_GRACE).await.unwrap(), exit);
    if !stands("CPU limit") {
        println!("skipped: the CPU limit: {:?}", probe.warnings);
        return;
    }
    let spin = "
import time
end, before = time.monotonic() + 1, time.process_time()
while time.monotonic() < end: pass
print('used', time.process_time() - before, flush=True)
";
    let mut spec = bench.python(spin);
    spec.limits.cpu_millis = 200;
    let (sandbox, _) = bench.ended(spec).await;
    let log = sandbox.log_tail(1000).await.unwrap();
    let used: f64 = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(used < 0.5, "{log}");
    sandbox.stop(NO_GRACE).await.unwrap();
}

pub(super) async fn two_sandboxes_do_not_meet(bench: &Bench) {
    let one = bench.listening(bench.agent()).await;
    let two = bench.listening(bench.agent()).await;
    // Both listen on 8080 of their own, and neither sees the other.
    let id = "r = open('/proc/sys/kernel/random/boot_id').read(); import builtins; builtins.me = ";
    run(&*one, &format!("{id}1")).await.unwrap();
    run(&*two, &format!("{id}2")).await.unwrap();
    assert_eq!(run(&*one, "r = me").await.unwrap(), 1);
    assert_eq!(run(&*two, "r = me").await.unwrap(), 2);
    assert_eq!(one.ports().await.unwrap(), [PORT]);
    if crate::sys::is_root() {
        let ids =
            |sandbox: &dyn Sandbox| fs::read_to_string(format!("/proc/{}/uid_map", guest_pid(bench, sandbox.id())));
        let [a, b] = [ids(&*one).unwrap(), ids(&*two).unwrap()];
        assert_ne!(a, b);
        assert!(
            a.split_ascii_whitespace().nth(1).unwrap().parse::<u32>().unwrap() >= 0x7000_0000,
            "{a}"
        );
    }
    one.stop(NO_GRACE).await.unwrap();
    assert_eq!(run(&*two, "r = me").await.unwrap(), 2);
    two.stop(NO_GRACE).await.unwrap();
}

/// As root the guest has another user than the agent; as an ordinary user it has not, and a signal of the agent's may
/// end the sandbox, which is the agent's own loss.
pub(super) async fn the_end_of_the_agent_is_the_end_of_all(bench: &Bench) {
    let sandbox = bench.listening(bench.agent()).await;
    let value: Value = run(
        &*sandbox,
        "import subprocess; r = subprocess.Popen(['/bin/sleep', '1000']).pid",
    )
    .await
    .unwrap();
    assert!(value.as_u64().unwrap() > 2);
    let mut stream = sandbox.dial(PORT).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"\"import os; os._exit(9)\"\n")
        .await
        .unwrap();
    assert_eq!(exited(&*sandbox).await.code, Some(9));
    // A connection that was open sees the end.
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    assert!(rest.is_empty());
    sandbox.stop(NO_GRACE).await.unwrap();
}

//! The process driver's shared ports: agents that bind a fixed one side by side.

use super::bench::{Bench, PORT};
use super::cases::wait_for_log;
use std::fs;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// As a server of the real SDK does: asyncio, a fixed port, `PORT` ignored.
const FIXED: &str = "
import asyncio, os
async def answer(reader, writer):
    writer.write(os.environ['NAME'].encode()); writer.close()
async def main():
    server = await asyncio.start_server(answer, '127.0.0.1', 8080)
    async with server: await server.serve_forever()
asyncio.run(main())
";

pub(super) async fn a_fixed_port_is_moved(bench: &Bench) {
    let mut sandboxes = Vec::new();
    for name in ["one", "two"] {
        let mut spec = bench.python(FIXED);
        spec.env.push(("NAME".into(), name.into()));
        sandboxes.push((name, bench.listening(spec).await));
    }
    for (name, sandbox) in sandboxes {
        let mut said = String::new();
        sandbox
            .dial(PORT)
            .await
            .unwrap()
            .read_to_string(&mut said)
            .await
            .unwrap();
        assert_eq!(said, name);
        assert_eq!(sandbox.ports().await.unwrap(), [PORT]);
        sandbox.stop(Duration::ZERO).await.unwrap();
    }
}

pub(super) async fn another_sitecustomize_still_runs(bench: &Bench) {
    let site = bench.package().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("sitecustomize.py"), "import builtins; builtins.other = 'ran'").unwrap();
    let mut spec =
        bench.python("import sitecustomize; print(other, sitecustomize.__file__); import time; time.sleep(1000)");
    spec.env.push(("PYTHONPATH".into(), site.to_str().unwrap().into()));
    let sandbox = bench.driver.start(spec).await.unwrap();
    wait_for_log(&*sandbox, "ran ").await;
    assert!(sandbox.log_tail(1000).await.unwrap().contains(site.to_str().unwrap()));
    sandbox.stop(Duration::ZERO).await.unwrap();
}

//! Prometheus, its Alertmanager and a node_exporter for each host, on the loopback of a namespace.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use traffic_mirror_tests::lab::netns::Netns;
use traffic_mirror_tests::lab::{TempDir, deadline, pause};

const PROMETHEUS: u16 = 9090;
const ALERTMANAGER: u16 = 9093;
/// That of the first host; the others have the next ones.
const NODE_EXPORTER: u16 = 9100;

/// What runs as long as it is there.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // one that has ended already is no error here
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The three programs, which end with it.
pub(super) struct Stack {
    _services: Vec<Service>,
    netns: Netns,
    _directory: TempDir,
}

impl Stack {
    /// Starts them. Hosts have a name and a directory for node_exporter; `rules` are for Prometheus.
    pub(super) fn start(hosts: &[(&str, &Path)], rules: &str) -> Result<Self> {
        let (netns, directory) = (Netns::new("watch")?, TempDir::new()?);
        let file = |name: &str, content: &str| -> Result<String> {
            let path = directory.path().join(name);
            fs::write(&path, content)?;
            Ok(path.display().to_string())
        };
        let below = |name: &str| directory.path().join(name).display().to_string();
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut services = Vec::new();
        let mut start = |program: &str, arguments: &[String]| -> Result<()> {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let child = netns.enter(|| {
                let child = command.spawn();
                child.with_context(|| format!("{program} is missing; run `make setup`"))
            })?;
            services.push(Service(child));
            Ok(())
        };
        let mut targets = Vec::new();
        for ((name, textfiles), port) in hosts.iter().zip(NODE_EXPORTER..) {
            start(
                "prometheus-node-exporter",
                &[
                    "--collector.disable-defaults".to_owned(),
                    "--collector.textfile".to_owned(),
                    format!("--collector.textfile.directory={}", textfiles.display()),
                    format!("--web.listen-address={}", address(port)),
                ],
            )?;
            targets.push(json!({ "targets": [address(port)], "labels": { "instance": name } }));
        }
        let quiet = json!({
            "route": { "receiver": "nobody", "group_by": ["..."], "group_wait": "1s" },
            "receivers": [{ "name": "nobody" }],
        });
        start(
            "prometheus-alertmanager",
            &[
                format!(
                    "--config.file={}",
                    file("alertmanager.yml", &quiet.to_string())?
                ),
                format!("--storage.path={}", below("alertmanager")),
                format!("--web.listen-address={}", address(ALERTMANAGER)),
                "--cluster.listen-address=".to_owned(),
            ],
        )?;
        // JSON is YAML
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [file("rules.yml", rules)?],
            "alerting": { "alertmanagers": [
                { "static_configs": [{ "targets": [address(ALERTMANAGER)] }] }
            ] },
            "scrape_configs": [{ "job_name": "node", "static_configs": targets }],
        });
        start(
            "prometheus",
            &[
                format!(
                    "--config.file={}",
                    file("prometheus.yml", &config.to_string())?
                ),
                format!("--storage.tsdb.path={}", below("prometheus")),
                format!("--web.listen-address={}", address(PROMETHEUS)),
                "--rules.alert.resend-delay=1s".to_owned(),
            ],
        )?;
        let stack = Self {
            _services: services,
            netns,
            _directory: directory,
        };
        stack.wait(hosts.len())?;
        Ok(stack)
    }

    /// Waits until all hosts are scraped and the Alertmanager answers.
    fn wait(&self, hosts: usize) -> Result<()> {
        let deadline = deadline() + Duration::from_secs(20);
        loop {
            let scraped = self.query("traffic_mirror_build_info");
            let alerts = self.alerts();
            match (&scraped, &alerts) {
                (Ok(scraped), Ok(_)) if scraped.len() == hosts => return Ok(()),
                _ => {}
            }
            ensure!(
                Instant::now() < deadline,
                "not all {hosts} hosts are scraped: {scraped:?}, {alerts:?}"
            );
            pause();
        }
    }

    /// The alerts that the Alertmanager has.
    pub(super) fn alerts(&self) -> Result<Vec<Value>> {
        let alerts = self.get(ALERTMANAGER, "/api/v2/alerts?active=true")?;
        Ok(alerts.as_array().context("a list")?.clone())
    }

    /// What an expression stands for now.
    pub(super) fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let answer = self.get(PROMETHEUS, &format!("/api/v1/query?query={encoded}"))?;
        ensure!(answer["status"] == "success", "{expression}: {answer}");
        Ok(answer["data"]["result"]
            .as_array()
            .context("a list")?
            .clone())
    }

    fn get(&self, port: u16, path: &str) -> Result<Value> {
        let answer = self.netns.enter(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            // version 1.0 has no chunks
            write!(
                stream,
                "GET {path} HTTP/1.0\r\nAccept: application/json\r\n\r\n"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        serde_json::from_str(body).with_context(|| answer.clone())
    }
}

//! Temporary.
#![allow(clippy::print_stdout, missing_docs)]
use carrel_domain::*;
use carrel_egress::*;
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut o = EgressOptions::new("/tmp/h4try");
    if a[1].contains("always") { o.open_tls = OpenTls::Always; }
    let e = Egress::open(o).unwrap_or_else(|e| panic!("{e}"));
    let sys = std::fs::read("/etc/ssl/certs/ca-certificates.crt").expect("x");
    let t = e.trust(&sys).expect("t");
    std::fs::write("/tmp/h4try/bundle.pem", &t.bundle_pem).expect("w");
    std::fs::write("/tmp/h4try/trust.p12", &t.java_pkcs12).expect("w");
    std::fs::write("/tmp/h4try/ours.pem", &t.certificate_pem).expect("w");
    let (tx, mut rx) = tokio::sync::mpsc::channel(100);
    let s = e.session(SessionPolicy { network: NetworkPolicy { internet: Internet::All, domains: vec![], methods: if a[1].contains("read") { Methods::Read } else { Methods::All } }, packages: vec![], secrets: vec![], environment: "x".into(), phase: Phase::Agent }, tx);
    tokio::spawn(async move { while let Some(d) = rx.recv().await { println!("{d:?}"); } });
    let l = tokio::net::TcpListener::bind("127.0.0.1:33129").await.expect("b");
    while let Ok((c, _)) = l.accept().await { let s = s.clone(); tokio::spawn(async move { s.serve(c).await }); }
}

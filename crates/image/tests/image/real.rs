//! Debian's registry with images that Debian's tools made, and umoci as the oracle of what an image unpacks to.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use carrel_domain::Secret;
use carrel_image::{Credential, Digest, ImageError, Images, Owner, Platform};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tree::{Node, tree};
use crate::{is_root, options, pulled};

/// A real image, `name:1`, in a layout of OCI's and in a registry's storage.
struct Made {
    folder: TempDir,
    layout: PathBuf,
}

/// A running docker-registry.
struct Registry {
    process: Child,
    address: SocketAddr,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("ended");
        self.process.wait().expect("waited for");
    }
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (a Debian package) is needed: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn bash(folder: &Path, script: &str) {
    let script = format!("set -eu; umask 022; cd '{}'; {script}", folder.display());
    run("bash", &["-c", &script]);
}

/// What makes both layers, on top of an unpacked bundle in `$1`.
const FIRST: &str = r#"
    mkdir -p bin usr/bin usr/lib etc/deep/er opt/gone/away srv/was-a-folder home/user tmp closed var
    cp /bin/busybox bin/busybox; for name in sh ls cat; do ln bin/busybox bin/$name; done
    ln -s usr/lib lib; ln -s /usr/lib lib64; ln -s nowhere broken; ln -s bin/busybox was-a-link
    echo one > etc/a; echo two > etc/b; echo three > etc/c; echo deep > etc/deep/er/d; echo x > opt/gone/away/e
    echo f > srv/was-a-folder/f; echo g > was-a-file; : > empty; echo s > usr/bin/su; chmod 4755 usr/bin/su
    echo w > usr/bin/wall; chmod 2755 usr/bin/wall; chmod 1777 tmp; echo secret > etc/shadow
    long=$(printf 'l%.0s' $(seq 200)); mkdir -p $long/$long; echo long > $long/$long/$long
    ln -s $long/$long/$long long-link
    printf x > "$(printf 'bytes\xff\xfe')"; printf x > "$(printf 'new\nline')"; printf x > ' space '; printf x > ümlaut
    truncate -s 3000000 zeros; head -c 3000000 /dev/urandom > noise
    touch -d '1999-01-02 03:04:05.678901234' etc/a; touch -h -d '2001-02-03' broken; touch -d '1960-01-01' etc/b
    echo in > closed/in; chmod 0555 closed"#;
const AS_ROOT: &str = "
    chown -R 1000:1001 home/user; chown -h 5:6 broken; chown 33:65534 etc/c; chmod 4755 usr/bin/su
    chmod 0000 etc/shadow
    mkfifo var/pipe; mknod var/null c 1 3; mknod var/disk b 7 0";
const SECOND: &str = r#"
    rm etc/a; rm -r opt/gone srv/was-a-folder; echo file > srv/was-a-folder; rm was-a-file; ln -s etc was-a-file
    rm was-a-link; mkdir was-a-link; echo in > was-a-link/in; echo changed >> etc/b; chmod 0600 etc/c
    echo new > usr/lib/new; ln etc/c etc/c-too; rm -r etc/deep; mkdir etc/deep; echo other > etc/deep/other
    touch -d '2005-06-07' tmp; touch -d '2006-07-08 00:00:00.5' usr/lib"#;

/// Makes the image with umoci.
fn made() -> Made {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = folder.path().join("layout");
    let image = format!("{}:1", layout.display());
    let (bundle, rootless) = (folder.path().join("bundle"), if is_root() { "" } else { "--rootless" });
    let here = Platform::here();
    bash(
        folder.path(),
        &format!(
            "umoci init --layout layout; umoci new --image {image}; umoci config --image {image} --architecture {} \
             --os linux --config.env PATH=/bin:/usr/bin --config.user 1000:1001 --config.workingdir /home/user; \
             umoci unpack {rootless} --image {image} bundle",
            here.architecture
        ),
    );
    for script in [FIRST, SECOND] {
        bash(&bundle.join("rootfs"), script);
        if script == FIRST && is_root() {
            bash(&bundle.join("rootfs"), AS_ROOT);
        }
        bash(folder.path(), &format!("umoci repack --refresh-bundle --image {image} bundle"));
    }
    Made { folder, layout }
}

/// Starts a registry over a made image's storage; `auth` is a section of its configuration.
fn start(made: &Made, auth: &str) -> Registry {
    start_in(made, "storage", auth)
}

fn start_in(made: &Made, storage: &str, auth: &str) -> Registry {
    let storage = made.folder.path().join(storage);
    let config = storage.with_extension("yml");
    let text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  \
         addr: 127.0.0.1:0\n{auth}",
        storage.display()
    );
    std::fs::write(&config, text).expect("written");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("docker-registry (a Debian package) is needed");
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
    let address = lines.find_map(|line| {
        let line = line.expect("text");
        let (_, rest) = line.split_once("listening on ")?;
        rest.split(['"', ',']).next()?.parse().ok()
    });
    // What it says later must go somewhere, or it would stop.
    std::thread::spawn(move || lines.for_each(drop));
    Registry { process, address: address.expect("it says where it listens") }
}

/// Copies the made image into a registry that lets everybody in.
fn push(made: &Made, registry: &Registry, tag: &str, arguments: &[&str]) -> Value {
    let layout = format!("oci:{}:1", made.layout.display());
    // What is compressed already stays as it is, so what shall be compressed anew is decompressed first.
    let plain = format!("dir:{}", made.folder.path().join("plain").display());
    let from = if arguments.contains(&"--dest-compress-format") {
        run("skopeo", &["--insecure-policy", "copy", "-q", "--dest-decompress", &layout, &plain]);
        plain
    } else {
        layout
    };
    let to = format!("docker://{}/team/image:{tag}", registry.address);
    let mut all = vec!["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"];
    all.extend_from_slice(arguments);
    all.extend_from_slice(&[&from, &to]);
    run("skopeo", &all);
    serde_json::from_slice(&raw_manifest(registry, tag)).expect("json")
}

fn raw_manifest(registry: &Registry, tag: &str) -> Vec<u8> {
    let name = format!("docker://{}/team/image:{tag}", registry.address);
    run("skopeo", &["inspect", "--raw", "--tls-verify=false", &name])
}

/// What umoci unpacks, without what we leave out, and with the owners that it gives.
fn expected(made: &Made, owner: Owner) -> std::collections::BTreeMap<PathBuf, Node> {
    let bundle = made.folder.path().join("oracle");
    let arguments = match owner {
        Owner::Shifted { start } => format!("--uid-map 0:{start}:65536 --gid-map 0:{start}:65536"),
        Owner::Own if is_root() => String::new(),
        Owner::Own => "--rootless".to_owned(),
    };
    let image = format!("{}:1", made.layout.display());
    bash(made.folder.path(), &format!("rm -rf oracle; umoci unpack {arguments} --image {image} oracle"));
    let mut found = tree(&bundle.join("rootfs"));
    found.retain(|_, node| !matches!(node.kind, "pipe" | "device"));
    found
}

/// Compares node by node, so that a difference can be read.
fn assert_same(
    found: &std::collections::BTreeMap<PathBuf, Node>,
    expected: &std::collections::BTreeMap<PathBuf, Node>,
) {
    let paths = |tree: &std::collections::BTreeMap<PathBuf, Node>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(found), paths(expected));
    for (path, node) in found {
        let other = &expected[path];
        let short = |node: &Node| Node { content: Digest::of(&node.content).as_str().into(), ..node.clone() };
        assert_eq!(short(node), short(other), "{}", path.display());
    }
}

#[tokio::test]
async fn an_image_unpacks_to_what_umoci_makes_of_it() {
    let made = made();
    let registry = start(&made, "");
    // In one of its own: skopeo remembers what it pushed where, and takes that instead of compressing it anew.
    let zstd_registry = start_in(&made, "zstd", "");
    let gzip = push(&made, &registry, "gzip", &[]);
    let zstd = push(&made, &zstd_registry, "zstd", &["--dest-compress-format", "zstd"]);
    let docker = push(&made, &registry, "docker", &["--format", "v2s2"]);
    assert!(gzip["layers"][0]["mediaType"].as_str().expect("a type").ends_with("gzip"), "{gzip}");
    assert!(zstd["layers"][0]["mediaType"].as_str().expect("a type").ends_with("zstd"), "{zstd}");
    assert!(docker["config"]["mediaType"].as_str().expect("a type").contains("docker"), "{docker}");

    let owners = if is_root() { vec![Owner::Shifted { start: 200_000 }, Owner::Own] } else { vec![Owner::Own] };
    for owner in owners {
        let mut expected = expected(&made, owner);
        if owner == Owner::Own {
            let us = nix::unistd::geteuid().as_raw();
            for node in expected.values_mut() {
                node.owner = (us, nix::unistd::getegid().as_raw());
                // A link has no mode of its own.
                node.mode &= if node.kind == "link" { 0o7777 } else { 0o1777 };
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = options(folder.path(), &registry.address.to_string());
        options.owner = owner;
        options.plain_http.push(zstd_registry.address.to_string());
        let images = Images::open(options).expect("opened");
        for (tag, registry) in [("gzip", &registry), ("zstd", &zstd_registry), ("docker", &registry)] {
            let image = pulled(&images, &format!("{}/team/image:{tag}", registry.address)).await.expect(tag);

            assert_same(&tree(&image.root), &expected);
            assert_eq!(image.config.path(), Some("/bin:/usr/bin"));
            assert_eq!(
                (image.config.user.as_str(), image.config.working_dir.as_deref()),
                ("1000:1001", Some("/home/user"))
            );
            assert_eq!(image.notes.devices, if is_root() { 3 } else { 0 });
        }
        assert_eq!(images.list().expect("listed").len(), 3);
    }
}

#[tokio::test]
async fn a_real_registry_s_index_leads_to_this_machine_s_image() {
    let made = made();
    let registry = start(&made, "");
    let manifest = push(&made, &registry, "1", &[]);
    let kind = &manifest["mediaType"];
    let bytes = raw_manifest(&registry, "1");
    let here = Platform::here();
    let entry = |architecture: &str| {
        json!({
            "mediaType": kind.as_str().unwrap_or(crate::fake::MANIFEST), "digest": Digest::of(&bytes).as_str(),
            "size": bytes.len(), "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let entries = [entry("mips"), entry(&here.architecture)];
    let index = json!({"schemaVersion": 2, "mediaType": crate::fake::INDEX, "manifests": entries});
    let put = reqwest::Client::new()
        .put(format!("http://{}/v2/team/image/manifests/all", registry.address))
        .header("content-type", crate::fake::INDEX)
        .body(serde_json::to_vec(&index).expect("json"));
    assert!(put.send().await.expect("an answer").status().is_success());
    let folder = tempfile::tempdir().expect("a folder");
    let images = Images::open(options(folder.path(), &registry.address.to_string())).expect("opened");

    let image = pulled(&images, &format!("{}/team/image:all", registry.address)).await.expect("pulled");

    assert_eq!(image.digest, Digest::of(&bytes));
    assert!(image.root.join("bin/busybox").is_file());
}

/// Whether a user gets in, and a wrong password and nobody do not.
async fn assert_logins(registry: &Registry) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = format!("{}/team/image:1", registry.address);
    for (number, (password, is_let_in)) in
        [(Some("s:1"), true), (Some("wrong"), false), (None, false)].into_iter().enumerate()
    {
        let mut options = options(&folder.path().join(number.to_string()), &registry.address.to_string());
        options.credentials = password
            .map(|password| Credential {
                registry: registry.address.to_string(),
                user: "ada".to_owned(),
                password: Secret::new(password),
            })
            .into_iter()
            .collect();
        if let Some(token_server) = TOKEN_SERVER.get() {
            options.plain_http.push(token_server.to_string());
        }
        let images = Images::open(options).expect("opened");

        let outcome = pulled(&images, &name).await;

        match outcome {
            Ok(image) => assert!(is_let_in && image.root.join("bin/busybox").is_file()),
            Err(error) => {
                assert!(!is_let_in, "{error}");
                assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
                assert!(!error.to_string().contains("wrong"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_registry_with_passwords_lets_in_who_knows_one() {
    let made = made();
    push(&made, &start(&made, ""), "1", &[]);
    let passwords = made.folder.path().join("htpasswd");
    // bcrypt of `s:1`.
    std::fs::write(&passwords, "ada:$2y$05$abcdefghijklmnopqrstuuAmwoI1aoLBi0U4Y1Z.kc1CzdeRIBg4q\n").expect("written");
    let auth = format!("auth:\n  htpasswd:\n    realm: here\n    path: {}\n", passwords.display());

    let registry = start(&made, &auth);

    assert_logins(&registry).await;
}

#[tokio::test]
async fn a_private_registry_with_its_own_authority_is_trusted_when_both_are_listed() {
    let made = made();
    push(&made, &start(&made, ""), "1", &[]);
    let folder = made.folder.path();
    bash(
        folder,
        "new='openssl req -x509 -newkey rsa:2048 -nodes -days 2'; \
         $new -keyout ca.key -out ca.pem -subj /CN=authority 2>&1; \
         $new -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem -subj /CN=registry -extensions usr_cert \
         -addext subjectAltName=IP:127.0.0.1 2>&1",
    );
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        folder.join("cert.pem").display(),
        folder.join("key.pem").display()
    );
    let registry = start(&made, &tls);
    let name = format!("{}/team/image:1", registry.address);
    let cache = tempfile::tempdir().expect("a folder");
    let mut options = carrel_image::ImageOptions::new(cache.path().join("1"), Owner::Own);
    options.first_pause = std::time::Duration::from_millis(1);

    let unlisted = pulled(&Images::open(options.clone()).expect("opened"), &name).await.expect_err("private");
    options.private.push(registry.address.to_string());
    let unknown = pulled(&Images::open(options.clone()).expect("opened"), &name).await.expect_err("unknown authority");
    options.extra_roots_pem = std::fs::read(folder.join("ca.pem")).expect("made");
    let image = pulled(&Images::open(options).expect("opened"), &name).await.expect("pulled");

    assert!(matches!(unlisted, ImageError::Refused { .. }), "{unlisted}");
    assert!(matches!(&unknown, ImageError::Unreachable { words, .. } if words.contains("ertificate")), "{unknown}");
    assert!(image.root.join("bin/busybox").is_file());
}

/// Where the token server of this process's one test listens.
static TOKEN_SERVER: std::sync::OnceLock<SocketAddr> = std::sync::OnceLock::new();

#[tokio::test]
async fn a_registry_with_a_token_server_lets_in_who_gets_a_token() {
    let made = made();
    push(&made, &start(&made, ""), "1", &[]);
    let folder = made.folder.path().to_owned();
    bash(
        &folder,
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=tokens -days 2 2>&1",
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    TOKEN_SERVER.set(address).expect("set once");
    let routes = Router::new().route("/token", get(token)).with_state(folder.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let auth = format!(
        "auth:\n  token:\n    realm: http://{address}/token\n    service: the-registry\n    issuer: the-issuer\n    \
         rootcertbundle: {}\n",
        folder.join("cert.pem").display()
    );

    let registry = start(&made, &auth);

    assert_logins(&registry).await;
}

/// A token server as the distribution project specifies it: signs what may be pulled.
async fn token(
    State(folder): State<PathBuf>,
    Query(query): Query<std::collections::HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let login = headers.get("authorization").and_then(|value| value.to_str().ok());
    if login != Some(&format!("Basic {}", STANDARD.encode("ada:s:1"))) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut scope = query["scope"].split(':');
    let (kind, name, actions) = (scope.next(), scope.next(), scope.next());
    let certificate = std::fs::read_to_string(folder.join("cert.pem")).expect("made");
    let certificate: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({
        "iss": "the-issuer", "sub": "ada", "aud": query["service"],
        "exp": now + 60, "nbf": now - 60, "iat": now, "jti": "1",
        "access": [{"type": kind, "name": name, "actions": [actions]}],
    });
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    std::fs::write(folder.join("signed"), &signed).expect("written");
    let key = folder.join("key.pem");
    let path = folder.join("signed");
    let arguments = ["dgst", "-sha256", "-sign", key.to_str().expect("text"), path.to_str().expect("text")];
    let signature = URL_SAFE_NO_PAD.encode(run("openssl", &arguments));
    Ok(json!({"token": format!("{signed}.{signature}")}).to_string())
}

//! What is read from the probe's output, and what is not.

use carrel_egress::packages::{Found, Known, Tool, read};

use super::{DEFAULT, indexes};

fn found(output: &str) -> Found {
    read(output.as_bytes())
}

#[test]
fn a_tool_that_is_not_installed_allows_nothing() {
    let found = found("npm\tindex\thttps://registry.example.com/\n");

    assert_eq!(found, Found::default());
}

#[test]
fn a_tool_that_took_too_long_is_taken_at_its_default_and_that_is_said() {
    let found = found("npm\there\t\nnpm\tlate\t\n");

    assert_eq!(indexes(&found, Tool::Npm), [DEFAULT]);
    assert!(found.notes[0].contains("npm did not say in time"), "{:?}", found.notes);
}

#[test]
fn a_mirror_takes_the_place_of_the_default_and_a_scope_stands_beside_it() {
    let found = found(
        "npm\there\t\nnpm\tindex\thttps://npm.example.com/all/\n\
         npm\tscope\t@acme:registry = \"https://acme.example.com/npm/\"\n",
    );

    assert_eq!(indexes(&found, Tool::Npm), ["https://npm.example.com/all/", "https://acme.example.com/npm/"]);
}

#[test]
fn credentials_queries_and_fragments_are_dropped_and_never_repeated() {
    let found = found(
        "npm\there\t\nnpm\tindex\thttps://user:hunter2@npm.example.com/x/?token=hunter2#hunter2\n\
         pip\there\t\npip\tindex\thttps://user:hunter2@10.0.0.1/simple\n",
    );

    assert_eq!(indexes(&found, Tool::Npm), ["https://npm.example.com/x/"]);
    assert_eq!(indexes(&found, Tool::Pip), Vec::<&str>::new());
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
}

#[test]
fn addresses_that_are_no_http_names_are_left_out_and_said() {
    for text in [
        "ssh://git@example.com/x",
        "ftp://example.com/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://a_-.example.com/",
        "https://exa mple.com/",
        "https://example.com%00.evil.org/",
        "https://",
        "javascript://example.com/",
    ] {
        let found = found(&format!("gem\there\t\ngem\tindex\t{text}\n"));
        assert_eq!(indexes(&found, Tool::Gem), Vec::<&str>::new(), "{text}");
        assert_eq!(found.notes.len(), 1, "{text}: {:?}", found.notes);
    }
}

#[test]
fn lines_that_are_not_of_the_format_are_passed_over_and_counted() {
    let mut output = b"gem\there\t\ngem\tindex\thttps://gems.example.com/\n".to_vec();
    for line in
        ["gem index https://a.example.com/", "evil\tindex\thttps://b.example.com/", "gem\tINDEX\thttps://c.example.com"]
    {
        output.extend(line.as_bytes());
        output.push(b'\n');
    }
    output.extend(b"gem\tindex\thttps://d.example.com/\x1b[2J\n");
    output.extend(b"gem\tindex\thttps://e.example.com/\xff\n");
    output.extend(format!("gem\tindex\thttps://f.example.com/{}\n", "x".repeat(5000)).as_bytes());

    let found = read(&output);

    assert_eq!(indexes(&found, Tool::Gem), ["https://gems.example.com/"]);
    assert_eq!(found.notes, ["6 lines of what the image's package managers said were not understood"]);
}

#[test]
fn a_line_that_was_cut_off_counts_for_nothing() {
    let found = found("gem\there\t\ngem\tindex\thttps://gems.example.com.evil");

    assert_eq!(indexes(&found, Tool::Gem), [DEFAULT]);
}

#[test]
fn more_than_64_kib_or_100_indexes_are_not_read() {
    let lines: String = (0..5000).map(|number| format!("gem\tindex\thttps://h{number}.example.com/\n")).collect();

    let found = found(&format!("gem\there\t\n{lines}"));

    assert_eq!(found.indexes.len(), 100);
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
}

#[test]
fn a_port_of_its_own_is_said() {
    let found = found("npm\there\t\nnpm\tindex\thttps://npm.example.com:8443/\n");

    assert!(found.notes[0].contains("npm.example.com at a port of its own"), "{:?}", found.notes);
}

#[test]
fn pips_extra_indexes_and_links_count_and_no_index_means_none() {
    let config = "pip\there\t\npip\tindex\thttps://pypi.example.com/simple\n\
        pip\tconfig\tglobal.extra-index-url='https://a.example.com/simple\\nhttps://b.example.com/simple'\n\
        pip\tconfig\tglobal.find-links='/opt/wheels https://links.example.com/'\n";

    let with_index = found(config);
    let without = found(&format!("{config}pip\tconfig\t:env:.no-index='1'\n"));

    let expected = [
        "https://pypi.example.com/simple",
        "https://a.example.com/simple",
        "https://b.example.com/simple",
        "https://links.example.com/",
    ];
    assert_eq!(indexes(&with_index, Tool::Pip), expected);
    assert!(!with_index.indexes[3].names_files, "a page of links is no index");
    assert_eq!(indexes(&without, Tool::Pip), Vec::<&str>::new());
}

#[test]
fn uvs_variables_and_files_are_read_together() {
    let found = found(
        "uv\there\t\nuv\tenv\tUV_INDEX=acme=https://acme.example.com/simple https://b.example.com/simple\n\
         uv\tfile\t/etc/uv/uv.toml\nuv\tline\t[[index]]\nuv\tline\turl = \"https://pypi.example.com/simple\"\n\
         uv\tline\tdefault = true\nuv\tfile\t/root/.config/uv/uv.toml\nuv\tline\tno toml [\n",
    );

    let expected =
        ["https://acme.example.com/simple", "https://b.example.com/simple", "https://pypi.example.com/simple"];
    assert_eq!(indexes(&found, Tool::Uv), expected);
    assert_eq!(found.notes, ["a configuration file of uv in the image is no TOML; it was left out"]);
}

#[test]
fn cargos_source_replacement_takes_crates_ios_place() {
    let found = found(
        "cargo\there\t\ncargo\tenv\tCARGO_REGISTRIES_ACME_INDEX=sparse+https://acme.example.com/index/\n\
         cargo\tfile\tx\ncargo\tline\t[source.crates-io]\ncargo\tline\treplace-with = \"mirror\"\n\
         cargo\tline\t[source.mirror]\ncargo\tline\tregistry = \"sparse+https://crates.example.com/\"\n\
         cargo\tline\t[registries.old]\ncargo\tline\tindex = \"https://git.example.com/index.git\"\n",
    );

    let expected =
        ["https://acme.example.com/index/", "https://git.example.com/index.git", "https://crates.example.com/"];
    assert_eq!(indexes(&found, Tool::Cargo), expected);
    let can_be_asked: Vec<bool> = found.indexes.iter().map(|index| index.names_files).collect();
    assert_eq!(can_be_asked, [true, false, true]);
}

#[test]
fn crates_that_are_vendored_need_no_host() {
    let found = found(
        "cargo\there\t\ncargo\tfile\tx\ncargo\tline\t[source.crates-io]\ncargo\tline\treplace-with = \"vendored\"\n\
         cargo\tline\t[source.vendored]\ncargo\tline\tdirectory = \"/vendor\"\n",
    );

    assert_eq!(found.indexes, []);
}

#[test]
fn gos_list_of_proxies_and_its_database_of_sums_are_read() {
    let both = found(
        "go\there\t\ngo\tproxy\thttps://go.example.com|https://proxy.golang.org,direct\ngo\tsumdb\tsum.example.com+abc\n",
    );
    let direct = found("go\there\t\ngo\tproxy\tdirect\ngo\tsumdb\tsum.golang.org\n");
    let off = found("go\there\t\ngo\tproxy\toff\ngo\tsumdb\toff\n");

    assert_eq!(
        indexes(&both, Tool::Go),
        ["https://go.example.com/", "https://proxy.golang.org/", "https://sum.example.com/"]
    );
    assert_eq!(direct.indexes, []);
    assert!(direct.notes[0].contains("allow those by name"));
    assert_eq!(off.indexes, []);
}

#[test]
fn mavens_mirror_of_everything_takes_centrals_place_and_comments_say_nothing() {
    let settings = |of: &str| {
        format!(
            "maven\there\t\nmaven\tfile\tx\nmaven\tline\t<!-- mirror\nmaven\tline\t<url>http://commented.example.com/</url>\n\
             maven\tline\t-->\nmaven\tline\t<mirror><blocked>true</blocked><url>http://0.0.0.0/</url></mirror>\n\
             maven\tline\t<mirror>\nmaven\tline\t  <mirrorOf>{of}</mirrorOf>\n\
             maven\tline\t\t<url>https://maven.example.com/all</url>\nmaven\tline\t</mirror>\n\
             maven\tline\t<repository><url>https://releases.example.com/</url></repository>\n"
        )
    };

    let everything = found(&settings("*,!releases"));
    let one = found(&settings("other"));

    assert_eq!(indexes(&everything, Tool::Maven), ["https://maven.example.com/all", "https://releases.example.com/"]);
    assert_eq!(indexes(&one, Tool::Maven).last(), Some(&DEFAULT));
    assert_eq!(everything.notes, Vec::<String>::new());
}

#[test]
fn the_other_tools_words_are_read() {
    for (output, tool, expected) in [
        (
            "yarn\tindex\thttps://yarn.example.com\nyarn\tscopes\t{\"acme\":{\"npmRegistryServer\":\"https://acme.example.com\"}}",
            Tool::Yarn,
            &["https://yarn.example.com/", "https://acme.example.com/"][..],
        ),
        (
            "poetry\tconfig\trepositories.acme.url = \"https://pypi.example.com/simple/\"",
            Tool::Poetry,
            &["https://pypi.example.com/simple/", DEFAULT],
        ),
        (
            "poetry\tconfig\tPOETRY_PYPI_MIRROR_URL=https://pypi.example.com/simple/",
            Tool::Poetry,
            &["https://pypi.example.com/simple/"],
        ),
        (
            "gradle\tfile\tx\ngradle\tline\t// see https://docs.example.com\ngradle\tline\turl = uri(\"https://maven.example.com/all\")",
            Tool::Gradle,
            &["https://maven.example.com/all", DEFAULT],
        ),
        (
            "bundler\tconfig\tmirror.https://rubygems.org/=https://gems.example.com/",
            Tool::Bundler,
            &["https://gems.example.com/"],
        ),
        ("bundler\tconfig\tmirror.https://rubygems.org/.fallback_timeout=3", Tool::Bundler, &[DEFAULT]),
        (
            "composer\tconfig\t[repositories.packagist.org.url] https?://repo.packagist.org",
            Tool::Composer,
            &["https://repo.packagist.org/"],
        ),
        (
            "nuget\tsource\tE https://nuget.example.com/v3/index.json\nnuget\tsource\tD https://api.nuget.org/v3/index.json",
            Tool::Nuget,
            &["https://nuget.example.com/v3/index.json"],
        ),
        (
            "apt\tindex\thttp://deb.example.com/\napt\tindex\tmirror+https://mirrors.example.com/\napt\tindex\tfile:///srv/repo/",
            Tool::Apt,
            &["http://deb.example.com/", "https://mirrors.example.com/"],
        ),
    ] {
        let found = found(&format!("{tool}\there\t\n{output}\n"));
        assert_eq!(indexes(&found, tool), expected, "{output}");
        assert_eq!(found.notes, Vec::<String>::new(), "{output}");
    }
}

#[test]
fn what_a_repository_brought_along_counts_only_as_far_as_its_hosts_are_known_or_were_found_before() {
    let before = found("npm\there\t\nnpm\tindex\thttps://npm.example.com/\n");
    let after = found(
        "npm\there\t\nnpm\tindex\thttps://npm.example.com/\nnpm\tscope\t@a:registry = \"https://evil.example.com/\"\n\
         gem\there\t\ngem\tindex\thttps://rubygems.org/\n",
    );

    let limited = after.clone().limited_to(Known::built_in(), &before);
    let of_its_own_image = after.limited_to(Known::built_in(), &Found::default());

    assert_eq!(indexes(&limited, Tool::Npm), ["https://npm.example.com/"]);
    assert_eq!(indexes(&limited, Tool::Gem), ["https://rubygems.org/"]);
    assert!(limited.notes[0].contains("evil.example.com by something that the repository"), "{:?}", limited.notes);
    assert_eq!(indexes(&of_its_own_image, Tool::Npm), Vec::<&str>::new());
}

#[test]
fn an_output_that_ends_anywhere_is_read_as_far_as_its_last_whole_line() {
    let output = "npm\there\t\nnpm\tindex\thttps://npm.example.com/\ncargo\there\t\ncargo\tfile\tx\ncargo\tline\t# ä\ncargo\tline\t[registries.a]\n\
        cargo\tline\tindex = \"sparse+https://crates.example.com/\"\nmaven\there\t\nmaven\tfile\tx\nmaven\tline\t<!-- <mirror><url>\n";

    for end in 0..output.len() {
        let found = read(&output.as_bytes()[..end]);
        let hosts = found.indexes.iter().map(|index| index.host.as_str());
        assert!(hosts.clone().all(|host| matches!(host, "npm.example.com" | "crates.example.com")), "{end}");
    }
    assert_eq!(indexes(&read(output.as_bytes()), Tool::Cargo), ["https://crates.example.com/", DEFAULT]);
}

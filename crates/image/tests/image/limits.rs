//! What is too much, and what grows too much.

use carrel_image::{ImageError, ImageLimits, Images};

use crate::fake::{Fake, FakeLayer};
use crate::tars::{Tar, zstd};
use crate::tree::contents;
use crate::{options, pulled};

/// What comes of an image under limits, the cache being empty afterwards.
async fn error_of(layers: &[FakeLayer], change: impl FnOnce(&mut ImageLimits)) -> ImageError {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start().await;
    fake.image("a", "1", layers);
    let mut options = options(folder.path(), &fake.address.to_string());
    change(&mut options.limits);
    let images = Images::open(options).expect("opened");

    let error = pulled(&images, &fake.name("a:1")).await.expect_err("too much");

    assert_eq!(contents(folder.path()).into_keys().collect::<Vec<_>>(), ["lock"]);
    error
}

#[tokio::test]
async fn every_limit_names_itself() {
    let small = || FakeLayer::gzip(&Tar::new().file("a", "x".repeat(5000)).file("b", "y").end());
    let words = |error: ImageError| error.to_string();

    let error = words(error_of(&[small()], |limits| limits.files = 1).await);
    assert!(error.contains("more files, and the limit is 1;"), "{error}");

    let error = words(error_of(&[small()], |limits| limits.unpacked_bytes = 4096).await);
    assert!(error.contains("more bytes when unpacked, and the limit is 4096 bytes"), "{error}");

    let error = words(error_of(&[small(), small()], |limits| limits.layers = 1).await);
    assert!(error.contains("2 layers, and the limit is 1;"), "{error}");

    let error = words(error_of(&[small()], |limits| limits.compressed_bytes = 10).await);
    assert!(error.contains("bytes in its layers, and the limit is 10 bytes"), "{error}");

    let error = words(error_of(&[small()], |limits| limits.manifest_bytes = 100).await);
    assert!(error.contains("a longer manifest or config, and the limit is 100 bytes"), "{error}");
}

#[tokio::test]
async fn bytes_are_counted_over_all_layers_and_in_whole_blocks() {
    let layer = |name: &str| FakeLayer::gzip(&Tar::new().file(name, "x").end());

    let error = error_of(&[layer("a"), layer("b"), layer("c")], |limits| limits.unpacked_bytes = 2 * 4096).await;

    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_bomb_is_defused_while_it_goes_off() {
    // 64 MiB of nothing in a few kilobytes, as a file, and behind the end of the archive.
    let nothing = vec![0; 64 << 20];
    let as_file = Tar::new().file("a", &nothing).end();
    let behind = [Tar::new().file("a", "x").end(), nothing].concat();
    for archive in [as_file, behind] {
        let layer = FakeLayer::of("application/vnd.oci.image.layer.v1.tar+zstd", zstd(&archive), &archive);

        let error = error_of(std::slice::from_ref(&layer), |limits| limits.ratio_from_bytes = 1 << 20).await;
        assert!(error.to_string().contains("bomb"), "{error}");

        let error = error_of(&[layer], |limits| limits.unpacked_bytes = 32 << 20).await;
        assert!(error.to_string().contains("more bytes when unpacked"), "{error}");
    }
}

#[tokio::test]
async fn a_zstd_window_that_would_take_all_memory_is_refused() {
    // A frame header that asks for a window of 2 GiB (RFC 8878, section 3.1.1.1.2), and one raw block.
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8][..], &[0x01, 0x28, 0x00], &[0; 5]].concat();
    let layer = FakeLayer::of("application/vnd.oci.image.layer.v1.tar+zstd", frame, b"");

    let error = error_of(&[layer], |_| {}).await;

    assert!(error.to_string().contains("broken"), "{error}");
}

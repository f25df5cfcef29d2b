//! Writes a PKCS#12 key store (RFC 7292) that holds certificates and nothing else, without encryption and without a
//! password, as Java's own `cacerts` is since JDK 18 and as JDK 8u301, 11.0.12 and later read it. There is no secret in it.

use rustls::pki_types::CertificateDer;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;

/// 1.2.840.113549.1.7.1, `pkcs7-data`.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3, `certBag`.
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1, `x509Certificate`.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20, `friendlyName`.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1, Oracle's `trustedKeyUsage`: without it Java takes an entry for no anchor.
const TRUSTED_KEY_USAGE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0, `anyExtendedKeyUsage`.
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// The key store.
pub(crate) fn trust_store(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let bags: Vec<u8> =
        certificates.iter().enumerate().flat_map(|(index, certificate)| bag(index, certificate)).collect();
    let contents = data(&der(SEQUENCE, &[&bags]));
    let safe = data(&der(SEQUENCE, &[&contents]));
    der(SEQUENCE, &[&der(INTEGER, &[&[3]]), &safe])
}

/// `ContentInfo` of plain data.
fn data(content: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT, &[DATA]), &der(EXPLICIT_0, &[&der(OCTETS, &[content])])])
}

fn bag(index: usize, certificate: &[u8]) -> Vec<u8> {
    let value = der(EXPLICIT_0, &[&der(OCTETS, &[certificate])]);
    let cert_bag = der(SEQUENCE, &[&der(OBJECT, &[X509]), &value]);
    let name: Vec<u8> = format!("trusted-{index:04}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut attributes = [
        attribute(FRIENDLY_NAME, &der(BMP_STRING, &[&name])),
        attribute(TRUSTED_KEY_USAGE, &der(OBJECT, &[ANY_USAGE])),
    ];
    // DER orders a set by its members' bytes.
    attributes.sort();
    let [first, second] = &attributes;
    der(SEQUENCE, &[&der(OBJECT, &[CERT_BAG]), &der(EXPLICIT_0, &[&cert_bag]), &der(SET, &[first, second])])
}

fn attribute(id: &[u8], value: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT, &[id]), &der(SET, &[value])])
}

/// One element: tag, length, and its parts.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 8);
    out.push(tag);
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 0x80) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        out.push(0x80 | u8::try_from(significant.len()).expect("a length has at most eight bytes"));
        out.extend_from_slice(significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

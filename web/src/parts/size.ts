// Sizes of files, as people read them.
const UNITS = ["kB", "MB", "GB"] as const;

/** `512 bytes`, `1.5 kB`, `10 MB`. */
export function fileSize(bytes: number): string {
  if (bytes < 1000) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  let value = bytes;
  let unit: string = UNITS[0];
  for (unit of UNITS) {
    value /= 1000;
    if (value < 999.5) break;
  }
  return `${value < 9.95 ? value.toFixed(1).replace(/\.0$/, "") : Math.round(value)} ${unit}`;
}

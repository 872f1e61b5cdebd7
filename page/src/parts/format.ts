/** Numbers as people read them. */

/** Seconds as 3:05, or as 3:05.2 with `tenths`. */
export function clock(seconds: number, tenths = false): string {
  const whole = tenths ? Math.round(seconds * 10) / 10 : Math.floor(seconds);
  const minutes = Math.floor(whole / 60);
  const rest = (whole - minutes * 60).toFixed(tenths ? 1 : 0);
  return `${minutes}:${rest.padStart(tenths ? 4 : 2, "0")}`;
}

/** The time left, from a duration such as "12.5s". */
export function remaining(eta: string): string {
  const seconds = Math.ceil(parseFloat(eta));
  if (seconds < 60) return `${seconds} s left`;
  return `${Math.ceil(seconds / 60)} min left`;
}

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${count < 10 && unit > 0 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** The names of parts, stems and stages as the API has them, as words: "no_vocals" → "no vocals". */
export function words(name: string): string {
  return name.replaceAll("_", " ").replace(/:(\d+)$/, " $1");
}

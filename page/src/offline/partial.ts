/** Parts of a file that is stored whole, because caches of browsers do not answer Range requests by themselves. */

/**
 * The answer to a request for `range`, a header such as "bytes=0-99", of a whole answer (RFC 9110, section 14).
 *
 * Malformed and multiple ranges get the whole file, as the RFC allows.
 */
export async function partOf(whole: Response, range: string | null): Promise<Response> {
  const wanted = /^bytes=(\d*)-(\d*)$/.exec(range ?? "");
  if (!wanted || (!wanted[1] && !wanted[2])) return whole;
  const content = await whole.blob();
  const size = content.size;
  const first = wanted[1] ? Number(wanted[1]) : Math.max(size - Number(wanted[2]), 0);
  const last = wanted[1] && wanted[2] ? Math.min(Number(wanted[2]), size - 1) : size - 1;
  if (wanted[1] && wanted[2] && Number(wanted[2]) < first) return new Response(content, { headers: whole.headers });
  const headers = new Headers(whole.headers);
  if (first > last) {
    headers.set("Content-Range", `bytes */${size}`);
    return new Response(null, { status: 416, statusText: "Range Not Satisfiable", headers });
  }
  headers.set("Content-Range", `bytes ${first}-${last}/${size}`);
  headers.set("Content-Length", String(last - first + 1));
  return new Response(content.slice(first, last + 1), { status: 206, statusText: "Partial Content", headers });
}

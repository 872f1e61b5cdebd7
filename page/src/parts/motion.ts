/** Motion, unless the user wants less of it. */

/** Whether the user has chosen reduced motion in the system's settings. */
export function isCalm(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Scrolls a positioned box until one of its elements is in its middle. */
export function scrollToMiddle(box: HTMLElement | null, element: HTMLElement | null | undefined): void {
  if (!box || !element) return;
  const top = element.offsetTop - (box.clientHeight - element.clientHeight) / 2;
  box.scrollTo({ top, behavior: isCalm() ? "auto" : "smooth" });
}

/** Motion, unless the user wants less of it. */

/** Whether somebody has asked their system for less motion. */
export function isCalm(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** Scrolls a box, which is positioned, until one of its elements is in its middle. */
export function scrollToMiddle(box: HTMLElement | null, element: HTMLElement | null | undefined): void {
  if (!box || !element) return;
  const top = element.offsetTop - (box.clientHeight - element.clientHeight) / 2;
  box.scrollTo({ top, behavior: isCalm() ? "auto" : "smooth" });
}

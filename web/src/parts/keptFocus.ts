// Keeps the focus where the work goes on: a button that is gone because it did what it was pressed for hands the focus to what
// has taken its place, so that a keyboard does not begin again at the top of the page.
import { type FocusEvent, type RefObject, useLayoutEffect, useRef } from "react";

/** The element whose buttons do something to an attempt. */
const ACTIONS = "[data-actions]";

/** Where the focus goes: to the first button there is now, or else to the attempt itself. */
const HEIRS = [`${ACTIONS} button`, "[data-attempt]"];

interface KeptFocus<E> {
  readonly ref: RefObject<E | null>;
  readonly onFocus: (event: FocusEvent<E>) => void;
  readonly onBlur: () => void;
}

/** For an element around buttons that come and go. What a person takes the focus away from is left alone. */
export function useKeptFocus<E extends HTMLElement>(): KeptFocus<E> {
  const ref = useRef<E>(null);
  const wanted = useRef(false);
  // React tells of no `blur` while it takes elements out of the page, so the focus is wanted still when it has just gone.
  useLayoutEffect(() => {
    const lost = document.activeElement === null || document.activeElement === document.body;
    if (!wanted.current || !lost) return;
    for (const heir of HEIRS) {
      const found = ref.current?.querySelector<HTMLElement>(heir);
      if (found == null) continue;
      found.focus({ preventScroll: true });
      break;
    }
    // The attempt may be replaced by the one that makes it again.
    wanted.current = true;
  });
  return {
    ref,
    onFocus: (event) => {
      wanted.current = event.target.closest(ACTIONS) !== null;
    },
    onBlur: () => {
      wanted.current = false;
    },
  };
}

// The title of the page, as the browser's tab shows it.
import { useEffect } from "react";

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === "" ? "Carrel" : `${title} · Carrel`;
  }, [title]);
}

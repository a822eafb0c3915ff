/**
 * The door that is closed behind the page. A policy can only be made stricter: each that is added holds beside the ones
 * before. While the page loads, its addresses are those of its own files; once it has loaded, there are none.
 */

const NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'";

/** From here on only these files of the page's own folder can be asked for. */
export function narrow(files) {
  const addresses = files
    .map((file) => new URL(file, document.baseURI))
    // A policy is a list with ; and , between its parts.
    .map((at) => at.origin + at.pathname.replaceAll(";", "%3B").replaceAll(",", "%2C"));
  add(`connect-src ${addresses.join(" ")}`);
}

/** From here on nothing can be asked for, by anyone. There is no way back but to load the page again. */
export function seal() {
  add(NOTHING);
}

function add(policy) {
  const meta = document.createElement("meta");
  meta.httpEquiv = "Content-Security-Policy";
  meta.content = policy;
  document.head.append(meta);
}

"""Executed notebooks as HTML reports that need no network.

A page looks as nbconvert's `lab` template makes it, because that template renders each cell.
What differs is that cells are rendered one by one, as they finish, and that what many notebooks
share is rendered once:

    cells ──cell()──▶ fragments ──page()──▶ one string
              │                      │
        nbconvert's template   styles, and MathJax, widgets or require.js
        over two caches        only where a fragment needs them
"""

from ductaflow.documents.html.header import Head as Head
from ductaflow.documents.html.header import fill_navigation as fill_navigation
from ductaflow.documents.html.header import keep_navigation as keep_navigation
from ductaflow.documents.html.renderer import Fragment as Fragment
from ductaflow.documents.html.renderer import HtmlRenderer as HtmlRenderer
from ductaflow.documents.html.renderer import NbCell as NbCell
from ductaflow.documents.html.renderer import renderer as renderer
from ductaflow.documents.html.sharing import SharedParts as SharedParts
from ductaflow.documents.html.sharing import can_share as can_share
from ductaflow.documents.html.sharing import lacks_parts as lacks_parts
from ductaflow.documents.html.sharing import shared as shared
from ductaflow.documents.html.sharing import shares as shares
from ductaflow.documents.html.sharing import whole as whole
from ductaflow.model.htmloptions import HtmlOptions as HtmlOptions

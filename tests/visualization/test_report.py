from PIL import Image

from kovilt.visualization import table, write_report


def test_the_page_holds_everything_and_loads_nothing(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'curves.png')
    page = write_report(
        tmp_path / 'report.html',
        title='Rooms',
        lead='정확도 <90 %>',
        tables={'Accuracy': table(['type', 'percent'], [['색 & 모양', 66.6667]])},
        images={'curves': tmp_path / 'curves.png'},
        sentences=['1. 무슨 색?  답: 빨강'],
        footer='made by make quickstart',
    ).read_text(encoding='utf-8')
    assert 'data:image/png;base64,' in page and '<script' not in page and 'http' not in page
    assert '색 &amp; 모양' in page and '66.67' in page and '&lt;90 %&gt;' in page and '<li>무슨 색?' in page
